# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hook finds the points, a run stops at the wanted one, and its killing reaches every process and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import CONTROLLER, TREE, Run

# A durable file written twice and one that is appended, by a process with a child that has left the session and one
# that has lost the mark.
PROGRAM = """
import os, subprocess, sys, time
folder = sys.argv[1]
subprocess.Popen(["env", "-i", "sleep", "300"])
if os.fork() == 0:
    os.setsid()
    time.sleep(300)
temporary = f"{folder}/.state.json.{os.getpid()}.tmp"
for _turn in range(2):
    with open(temporary, "w") as stream:
        stream.write("x")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, f"{folder}/state.json")
with open(f"{folder}/ledger.jsonl", "w") as stream:
    stream.write("x")
    stream.flush()
    os.fsync(stream.fileno())
with open(f"{folder}/elsewhere/file", "w") as stream:
    os.fsync(stream.fileno())
subprocess.run([sys.argv[2], "compose", "--project-directory", folder, "--file=x", "create", "--dry-run"], check=False)
subprocess.run([sys.argv[2], "compose", "--project-directory", folder, "--file=x", "create", "one"], check=False)
time.sleep(300)
"""
WRITES = [f" program: write state.json #{number} {moment}" for number in (1, 2) for moment in ("before", "after")]
OTHERS = [
    f" program: {what} #1 {moment}"
    for what in ("append ledger.jsonl", "docker compose create")
    for moment in ("before", "after")
]


@pytest.fixture
def start(tmp_path):
    durable = tmp_path / "durable"
    (durable / "elsewhere").mkdir(parents=True)
    engine = tmp_path / "docker"
    engine.symlink_to("/bin/true")
    runs = []

    def begin(wanted: str, name: str = "program") -> Run:
        program = tmp_path / f"{name}.py"
        program.write_text(PROGRAM)
        command = [sys.executable, str(program), str(durable), str(engine)]
        run = Run(command, dict(os.environ), tmp_path, tmp_path / f"run-{len(runs)}", [durable], wanted)
        runs.append(run)
        return run

    yield begin
    for run in runs:
        run.kill(TREE)


def labels(run: Run) -> list[str]:
    return [row["label"] for row in run.trace]


def test_each_durable_write_and_each_command_is_two_points(start):
    run = start(OTHERS[-1])
    assert run.until(lambda: run.reached)
    assert labels(run) == WRITES + OTHERS


def test_it_stops_at_the_wanted_point(start):
    run = start(WRITES[1])
    assert run.until(lambda: run.reached)
    assert labels(run) == WRITES[:2]


def test_every_process_of_the_run_is_killed_and_no_other(start):
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
    other = start(WRITES[0])
    run = start(WRITES[0])
    try:
        assert run.until(lambda: run.reached)
        assert other.until(lambda: other.reached)
        assert len(run.processes()) == 3
        run.kill(TREE)
        assert run.processes() == set()
        assert stranger.poll() is None
        assert len(other.processes()) == 3
    finally:
        stranger.kill()
        stranger.wait()


def test_a_module_works_on_without_its_controller(start):
    run = start(WRITES[0])
    assert run.until(lambda: run.reached)
    # The run's own process is the controller here, and the child that left its session plays the module.
    run._is_controller = lambda process: process == run.process.pid
    run.kill(CONTROLLER)
    assert run.process.returncode == -9
    assert run.survivors and run.modules_at_work()
