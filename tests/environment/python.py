# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The virtual environment ``.venv``, with every package pinned."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys

from system import ROOT, SetupError, install, run, say, succeeds

VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements"
# What the pinned ansible-core runs on.
VERSIONS = ((3, 11), (3, 12), (3, 13))
PROBE = "import sys; sys.exit(sys.version_info[:2] not in {versions})"


def interpreter() -> str:
    """Return a Python that the pinned packages run on."""
    # The base executable: somebody may have activated the environment that is about to be made anew.
    names = [sys._base_executable, *(f"python{major}.{minor}" for major, minor in VERSIONS), "/usr/bin/python3"]
    for name in names:
        # Asked, not just found: a version manager's shim exists for versions that are not installed.
        if succeeds(name, "-c", PROBE.format(versions=VERSIONS)):
            return name
    wanted = " or ".join(f"{major}.{minor}" for major, minor in VERSIONS)
    raise SetupError(f"no Python {wanted} found: install one, on Debian 12 or later python3 and python3-venv")


def stamp(name: str) -> str:
    """Return a hash of what a level of requirements is made from."""
    files = [REQUIREMENTS / "constraints.txt", REQUIREMENTS / "run.txt", REQUIREMENTS / f"{name}.txt"]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def ensure(name: str) -> None:
    """Bring the virtual environment up to ``requirements/NAME.txt``."""
    done = VENV / f".{name}"
    if done.exists() and done.read_text() == stamp(name) and succeeds(str(VENV / "bin" / "python"), "-c", ""):
        return
    say(f"virtual environment .venv with requirements/{name}.txt")
    if not succeeds(str(VENV / "bin" / "python"), "-m", "pip", "--version"):
        create()
    pip = (str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check")
    files = ("-r", str(REQUIREMENTS / f"{name}.txt"), "-c", str(REQUIREMENTS / "constraints.txt"))
    run(*pip, *files, log="pip.log", problem="pip install failed")
    done.write_text(stamp(name))


def create() -> None:
    """Make an empty virtual environment."""
    python = interpreter()
    if not succeeds(python, "-c", "import ensurepip"):
        code = "import sys; print('python%d.%d-venv' % sys.version_info[:2])"
        package = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        install("Python's venv module", package)
    remove()
    run(python, "-m", "venv", str(VENV), log="venv.log", problem="python3 -m venv failed")


def remove() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
