# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("stack", "faults", "machines")]

from machines import Machines  # noqa: E402
from moments import QUICK  # noqa: E402


@pytest.fixture(scope="module")
def machines(request, tmp_path_factory):
    """Three machines with the deployment, running; their names are the test module's."""
    name = request.module.__name__.rsplit(".", 1)[-1].removeprefix("test_").replace("_", "-")
    with Machines(name, tmp_path_factory.mktemp("machines")) as running:
        yield running


@pytest.fixture(scope="module")
def plays(machines, tmp_path_factory):
    """The playbooks for them, after the deployment was provisioned."""
    quick = {**QUICK, "rotate_drain": {"quiet": 0.5, "timeout": 3}}
    plays = machines.plays(tmp_path_factory.mktemp("inventory"), **quick)
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    return plays
