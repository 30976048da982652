# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every part of the set-up uses: folders, commands with a log, Debian packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
LOGS = BUILD / "log"


class SetupError(Exception):
    """What is missing and how to get it, in one line."""


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def run(*command: str, log: str, problem: str, cwd: Path | None = None) -> None:
    """Run a command with its output in ``build/log``; ``problem`` names what did not work."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / log
    with path.open("w") as output:
        code = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        ).returncode
    if code:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        raise SetupError(f"{problem}: {lines[-1] if lines else 'no reason given'} (log: {path})")


def succeeds(*command: str, timeout: float = 20) -> bool:
    """Say whether a command can be run and ends well."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def install(what: str, *packages: str) -> None:
    """Install Debian packages for ``what``, or say what a person has to install."""
    command = f"apt-get install {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise SetupError(f"{what} is missing and this system has no apt: install {what} by hand")
    if os.geteuid() != 0:
        raise SetupError(f"{what} is missing: run as root, or have it installed: {command}")
    say(command)
    run("apt-get", "update", log="apt-update.log", problem="apt-get update failed")
    arguments = ("install", "--yes", "--no-install-recommends", *packages)
    run("apt-get", *arguments, log=f"apt-{packages[0]}.log", problem=f"{command} failed")


def clean_build() -> None:
    shutil.rmtree(BUILD, ignore_errors=True)
