# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection to the target is cut at each step; then the same command again."""

from __future__ import annotations

import subprocess
import threading

import moments
import pytest
import ssh
from outcome import check_end, log_in, published, services_work, stored

pytestmark = pytest.mark.skipif(not ssh.SSHD, reason="needs an SSH server (apt-get install openssh-server)")
STEPS = ["create", "set", "test", "publish", "roll_out", "drain", "finish", "revoke"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ssh.SshServer(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture(scope="module")
def plays(stack, server, tmp_path_factory):
    return moments.provisioned(tmp_path_factory.mktemp("inventory"), stack, **server.variables())


def unreachable(run: moments.Run, step: str) -> None:
    """Assert that a run says where it was cut and what that means, and claims nothing else.

    What a step does on the controller alone is done: the next one is cut then.
    """
    assert run.returncode == 4, run.stdout
    noticed = run.steps[-1]
    assert noticed in STEPS[STEPS.index(step) :][:2], run.steps
    run.stopped(f"at {noticed.replace('_', ' ')}", "unreachable")


def test_the_connection_is_cut_before_anything_begins(stack, server, plays):
    store = plays.store_path.read_bytes()
    run = moments.run(plays, at={"open": lambda _pid: server.cut()})
    server.start()
    assert run.returncode == 4
    assert "STOPPED before create: db1 unreachable" in run.flat
    assert "Nothing was changed" in run.flat
    assert "Traceback" not in run.stdout
    assert plays.store_path.read_bytes() == store
    check_end(stack, plays)


def test_the_connection_is_cut_in_each_step(stack, server, plays):
    """One rotation, cut at one step after the other; each run goes on where the one before was cut."""
    old, new = published(stack), None
    for step in STEPS:
        run = moments.run(plays, at={step: lambda _pid: server.cut()})
        server.start()
        unreachable(run, step)
        assert log_in(stack, published(stack)) == "accepted"
        # The value is made once and kept.
        made = stored(plays, "pending") or stored(plays)
        assert made != old, step
        assert new in (None, made), step
        new = made
        if step == "roll_out":
            services_work(stack)
    run = moments.run(plays)
    assert run.returncode == 0, run.stdout
    assert stored(plays) == new
    check_end(stack, plays, [old])


def test_the_connection_is_cut_while_containers_are_replaced(stack, server, plays):
    """The module on the target does not know, and works on; the next run waits for it, or says that it works."""
    old = published(stack)
    events = subprocess.Popen(
        [
            "docker",
            "events",
            "--filter",
            f"label=com.docker.compose.project={stack.project}",
            "--filter",
            "event=start",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )

    def cut_at_first_start() -> None:
        events.stdout.readline()
        server.cut()

    waiting = threading.Thread(target=cut_at_first_start)
    try:
        run = moments.run(plays, at={"roll_out": lambda _pid: waiting.start()})
        waiting.join(60)
    finally:
        events.kill()
        events.wait()
    server.start()
    unreachable(run, "roll_out")
    services_work(stack)
    for _attempt in range(5):
        run = moments.run(plays)
        if not run.returncode:
            break
        run.refused("is working there", "run the same command")
    run.rotated()
    check_end(stack, plays, [old])
