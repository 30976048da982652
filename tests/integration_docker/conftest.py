# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "stack"), str(ROOT / "tests" / "images")]

from plays import Plays  # noqa: E402
from stack import Stack  # noqa: E402


@pytest.fixture(scope="module")
def stack(request):
    """The demo stack, running; its name is the test module's."""
    name = request.module.__name__.rsplit(".", 1)[-1].removeprefix("test_").replace("_", "-")
    with Stack(f"test-{name}") as running:
        yield running


@pytest.fixture(scope="module")
def unprovisioned(stack, tmp_path_factory):
    """The playbooks for that stack, in a hurry."""
    return Plays(
        tmp_path_factory.mktemp("inventory"),
        stack.directory,
        rotate_rollout={"quiet": 0.3, "settle": 0.3},
        rotate_drain={"quiet": 0.5, "timeout": 3},
    )


@pytest.fixture(scope="module")
def plays(unprovisioned):
    """Those playbooks, after the stack was provisioned."""
    done = unprovisioned.run("provision.yml")
    assert done.returncode == 0, done.stdout
    return unprovisioned


@pytest.fixture
def inventory(plays):
    """A way to change the inventory's variables for one test."""
    kept = dict(plays.variables)

    def change(**variables):
        plays.variables.update(variables)
        plays.write_inventory()

    yield change
    plays.variables = kept
    plays.write_inventory()
