# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall clock jumps, for the controller and for the modules alike."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import moments
import pytest
from outcome import check_end, published, stored
from plays import Plays

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(not COMPILER, reason="needs a C compiler (apt-get install gcc libc6-dev)")
DAY = 86400


class Clock:
    """The wall clock of the runs that get ``environment``. The one that nobody sets, since boot, goes on as it is."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        library = folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([COMPILER, "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_OFFSET": str(self._file)}

    def jump(self, offset: int) -> None:
        """Put the clock so many seconds from the real one; whoever runs sees it at once."""
        self._file.write_text(f"{offset}\n")


@pytest.fixture
def clock(tmp_path) -> Clock:
    return Clock(tmp_path)


def seen(clock: Clock, what: str) -> float:
    """Return a clock as a process sees it."""
    code = f"import time; print(time.clock_gettime(time.{what}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clock.environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def test_the_clock_of_these_tests_jumps_and_the_one_since_boot_does_not(clock):
    before = {what: seen(clock, what) for what in ("CLOCK_REALTIME", "CLOCK_BOOTTIME", "CLOCK_MONOTONIC")}
    clock.jump(-2 * DAY)
    assert seen(clock, "CLOCK_REALTIME") < before["CLOCK_REALTIME"] - DAY
    assert seen(clock, "CLOCK_BOOTTIME") >= before["CLOCK_BOOTTIME"]
    assert seen(clock, "CLOCK_MONOTONIC") >= before["CLOCK_MONOTONIC"]


def test_the_clock_is_set_back_and_forth_on_the_way(stack, plays, clock):
    old = published(stack)
    run = moments.run(
        plays,
        at={"set": lambda _pid: clock.jump(-2 * DAY), "revoke": lambda _pid: clock.jump(-DAY)},
        **clock.environment,
    )
    run.rotated()
    # How long it took is no matter of the wall clock; what was counted by it is not known.
    took = re.search(r"ROTATED  postgres +(.+?) +refused logins (.+?)  ", run.stdout)
    assert re.fullmatch(r"[\d.]+ s|\d+ min \d+ s", took[1]), took[0]
    assert took[2] == "not counted", took[0]
    check_end(stack, plays, [old])
    # Made in the future, as it were, and no trouble to anybody.
    status = moments.run(plays, "status.yml", **clock.environment)
    assert status.returncode == 0, status.stdout
    # Nor to the next one, by a clock that was put right.
    old = published(stack)
    clock.jump(0)
    run = moments.run(plays, **clock.environment)
    run.rotated()
    assert "refused logins 0" in run.stdout
    check_end(stack, plays, [old])


def test_a_run_that_died_before_the_clock_was_set_back(stack, plays, clock):
    """A lease does not live longer than it was given, nor shorter, by a wall clock."""
    old = published(stack)
    moments.run(plays, at={"publish": lambda pid: os.kill(pid, signal.SIGKILL)}, **clock.environment)
    clock.jump(-2 * DAY)
    refused = moments.run(plays, LOGNAME="colleague", **clock.environment)
    refused.refused("holds the lock (r-")
    run = moments.run(plays, **clock.environment)
    run.rotated()
    assert "was dead: taken over" in run.flat
    check_end(stack, plays, [old])


def test_a_grace_is_not_cut_short_by_a_clock_that_was_set_back(stack, plays, clock):
    """Later than it should, where the clock makes it; never earlier. It can always be ended by hand."""
    old = published(stack)
    patient = Plays(
        plays.folder, plays.project_dir, **{**plays.variables, "secrets_catalog": {"postgres": {"grace": "1d"}}}
    )
    try:
        moments.run(patient).rotated()
        assert stored(patient, "previous") == old
        clock.jump(-2 * DAY)
        moments.run(patient, **clock.environment).refused("in its grace until", "end_grace=true")
        moments.run(patient, "revoke.yml", **clock.environment)
        assert stored(patient, "previous") == old
        run = moments.run(patient, "revoke.yml", "-e", "end_grace=true", **clock.environment)
        assert run.returncode == 0, run.stdout
    finally:
        plays.write_inventory()
    check_end(stack, plays, [old])
