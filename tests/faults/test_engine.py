# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker engine is stopped and started while containers are replaced. It is the whole machine's: only where told.

``make faults`` allows it where the set-up has started the engine itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import moments
import pytest
from outcome import check_end, published, stored

pytestmark = pytest.mark.skipif(
    os.environ.get("CHAT4ALL_MAY_STOP_DOCKER") != "1", reason="stops the engine: CHAT4ALL_MAY_STOP_DOCKER=1 allows it"
)
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "environment"), str(ROOT / "tests" / "images")]
PID_FILE = Path("/var/run/docker.pid")


def stop_engine() -> None:
    process = int(PID_FILE.read_text())
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + 120
    while Path(f"/proc/{process}").exists() and "State:\tZ" not in Path(f"/proc/{process}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def start_engine() -> None:
    import engine

    engine.start()


def test_the_engine_is_restarted_while_containers_are_replaced(stack, plays):
    old, failed = published(stack), []
    mine = f"label=com.docker.compose.project={stack.project}"
    events = subprocess.Popen(
        ["docker", "events", "--filter", mine, "--filter", "event=start"], stdout=subprocess.PIPE, text=True
    )

    def stop_at_first_start() -> None:
        events.stdout.readline()
        stop_engine()

    stopping = threading.Thread(target=stop_at_first_start)

    def begin(_pid: int) -> None:
        failed.append(stored(plays, "pending"))
        stopping.start()

    try:
        run = moments.run(plays, at={"roll_out": begin})
        stopping.join(150)
    finally:
        events.kill()
        events.wait()
        start_engine()
    run.stopped("after roll_out", "docker")
    # What had not been replaced comes back by itself (restart: unless-stopped); the rest is the next run's work.
    run = moments.run(plays)
    if run.returncode:
        run.stopped("Rerun")
        run = moments.run(plays)
    run.rotated()
    dead = [login for login in (old, *failed) if login != published(stack)]
    check_end(stack, plays, dead)
