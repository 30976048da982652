# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ansible-cores that the collection promises to run on, the oldest and the newest, each in an environment of its own."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "environment"))

from python import PROBE, REQUIREMENTS  # noqa: E402
from system import BUILD, SetupError, run, say, succeeds  # noqa: E402

# The oldest core runs on 3.10 to 3.12, the newest on the newest.
FOR_OLDEST = ((3, 11), (3, 12))
FOR_NEWEST = ((3, 13), (3, 12), (3, 11))
# ansible-core itself, and what each series wants in a range of its own.
NOT_PINNED = ("ansible", "ansible-core", "resolvelib")


@dataclass(frozen=True)
class Core:
    version: str
    interpreter: str

    @property
    def folder(self) -> Path:
        return BUILD / "cores" / self.version

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def ensure(self) -> None:
        """Have the virtual environment, made anew where what it is made from has changed."""
        pins = [REQUIREMENTS / "cores.txt", REQUIREMENTS / "constraints.txt"]
        stamp = hashlib.sha256(
            b"\0".join([*(path.read_bytes() for path in pins), self.interpreter.encode()])
        ).hexdigest()
        done = self.folder / ".made-from"
        if done.exists() and done.read_text() == stamp and succeeds(str(self.python), "-c", ""):
            return
        say(f"virtual environment for ansible-core {self.version} on {self.interpreter}")
        problem = "python -m venv failed"
        run(
            self.interpreter, "-m", "venv", "--clear", str(self.folder), log=f"core-{self.version}.log", problem=problem
        )
        constraints = self.folder / "constraints.txt"
        kept = [line for line in pins[1].read_text().splitlines() if line.partition("==")[0] not in NOT_PINNED]
        constraints.write_text("\n".join(kept) + "\n")
        wanted = (f"ansible-core=={self.version}", "-r", str(pins[0]), "-c", str(constraints))
        pip = (str(self.python), "-m", "pip", "install", "--disable-pip-version-check")
        run(*pip, *wanted, log=f"core-{self.version}.log", problem="pip install failed")
        done.write_text(stamp)


def interpreter(versions: tuple[tuple[int, int], ...]) -> str:
    """Return the first of some Pythons that is here."""
    for version in versions:
        name = "python{}.{}".format(*version)
        managed = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
        found = sorted(managed.glob(f"{name.removeprefix('python')}.*/bin/{name}"))
        # Asked, not just found: a version manager's shim exists for versions that are not installed.
        for candidate in [name, *map(str, found)]:
            if succeeds(candidate, "-c", "import ensurepip;" + PROBE.format(versions=(version,))):
                return candidate
    raise SetupError(f"no Python {' or '.join('{}.{}'.format(*version) for version in versions)} with venv found")


def published(python: str) -> list[Version]:
    """Return the versions of ansible-core that the index has for a Python, release candidates included."""
    command = [python, "-m", "pip", "index", "versions", "ansible-core", "--pre", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    listed = re.search(r"Available versions: (.*)", done.stdout)
    if not listed:
        raise SetupError(f"the package index cannot be asked for ansible-core: {done.stderr.strip().splitlines()[-1:]}")
    return sorted(Version(name) for name in listed.group(1).split(", "))


def oldest() -> Core:
    """Return the last release of the oldest series that meta/runtime.yml promises."""
    promised = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    series = Version(promised.removeprefix(">=")).release[:2]
    python = interpreter(FOR_OLDEST)
    return Core(
        str([one for one in published(python) if one.release[:2] == series and not one.is_prerelease][-1]), python
    )


def newest() -> Core:
    """Return the newest version of all; where an older Python alone is here, the newest that runs on it."""
    python = interpreter(FOR_NEWEST)
    if not succeeds(python, "-c", PROBE.format(versions=FOR_NEWEST[:1])):
        say(f"no Python {'{}.{}'.format(*FOR_NEWEST[0])} here: the newest ansible-core that runs on {python} is tested")
    return Core(str(published(python)[-1]), python)
