# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes a machine ready: ``python3 tests/environment/setup.py [--for demo|test|check] [--clean]``.

A virtual environment, a Docker engine and Compose v2 where none answers, the test images, and the link under which
Ansible finds this collection. What is there already is left alone; a second run takes less than a second. Needs
Python's standard library alone.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "images"), str(ROOT / "tests" / "stack")]

import engine  # noqa: E402
import faults  # noqa: E402
import images  # noqa: E402
import python  # noqa: E402
from system import BUILD, SetupError, clean_build  # noqa: E402

COLLECTION = BUILD / "collections" / "ansible_collections" / "chat4all" / "secrets"


@contextmanager
def alone() -> Iterator[None]:
    """Let one set-up work at a time."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def link_collection() -> None:
    """Make the checkout visible as ``chat4all.secrets``."""
    if not COLLECTION.is_symlink() or COLLECTION.resolve() != ROOT:
        COLLECTION.unlink(missing_ok=True)
        COLLECTION.parent.mkdir(parents=True, exist_ok=True)
        COLLECTION.symlink_to(ROOT, target_is_directory=True)


def prepare(purpose: str) -> None:
    """Set up what ``purpose`` needs: ``check`` needs no engine, ``demo`` neither the linters nor every image."""
    with alone():
        # The engine first: where it cannot be had, that is known before minutes have passed.
        if purpose != "check":
            engine.ensure()
            engine.ensure_compose()
            images.make(image for image in images.IMAGES if image.demo or purpose == "test")
        python.ensure("run" if purpose == "demo" else "test")
        if purpose == "test":
            faults.ensure()
        link_collection()


def clean() -> None:
    """Remove what the set-up, the demo and the tests made here; installed packages stay."""
    with alone():
        if engine.answers():
            engine.remove_stacks()
            images.remove()
        engine.stop()
        python.remove()
        clean_build()


def main() -> int:
    parser = argparse.ArgumentParser(description="Make this machine ready for the demo or the tests.")
    parser.add_argument("--for", dest="purpose", choices=["demo", "test", "check"], default="test")
    parser.add_argument("--clean", action="store_true", help="remove what the set-up made")
    options = parser.parse_args()
    try:
        clean() if options.clean else prepare(options.purpose)
    except SetupError as error:
        print(f"Set-up stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
