# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No channel shows a secret, with the ansible-core in use; the whole of it, on two cores, is ``make canary``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CANARY = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What a whole rotation, a failing one, one with a malformed .env and a killed one left to be found."""
    result = tmp_path_factory.mktemp("canary") / "report.json"
    subprocess.run([sys.executable, CANARY / "scenario.py", "part", result, "--part"], check=True)
    return json.loads(result.read_text())


def test_no_value_shows_anywhere(report):
    assert report["values"] > 10
    assert report["found"] == []


def test_in_every_channel_a_value_would_have_been_found(report):
    assert report["red"] == report["channels"]


def test_every_run_ended_as_it_must(report):
    assert report["problems"] == []
