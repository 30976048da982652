# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host is cut off in each step: both values stay valid, no login is refused, and the same command goes on."""

from __future__ import annotations

import moments
import pytest
from machines import CONSUMERS
from outcome import Login, stored

STEPS = ["create", "set", "test", "publish", "roll_out", "drain", "finish", "revoke"]


@pytest.mark.parametrize("host", ["app1", "db1"])
def test_a_host_is_cut_off_in_each_step(machines, plays, host):
    """Cut at one step after the other; each run goes on where the one before was cut, with the value that this has made.

    Of a host that has consumers alone, the last steps have no need but for its lock: there the rotation is through.
    """
    ended, before = {stored(plays)}, machines.refused()
    for step in STEPS:
        # The server does not know that nobody is at the other end of what a cut-off host has left.
        ends = ["-e", "end_sessions=true"] if step in STEPS[STEPS.index("drain") :] else []
        current, pending = stored(plays), stored(plays, "pending")
        previous = plays.store()["secrets_credentials"]["postgres"].get("previous", {"revoked": ""})
        under_way = pending or (None if "revoked" in previous else current)
        run = moments.run(plays, "rotate-db.yml", *ends, at={step: lambda _pid: machines.cut(host)})
        machines.mend(host)
        assert "Traceback" not in run.stdout, run.stdout
        assert run.returncode == 4, run.stdout
        run.stopped(f"{host} unreachable")
        made = stored(plays, "pending") or stored(plays)
        assert made == under_way if under_way else made != current, f"{step}: the value that was made is not kept"
        ended |= {current, made}
        for name in CONSUMERS:
            assert machines.log_in(machines.published(name)) == "accepted", f"{step}: {name}'s login does not work"
    run = moments.run(plays, "rotate-db.yml", "-e", "end_sessions=true")
    assert run.returncode == 0, run.stdout
    ours = machines.refused() - before
    assert ours == 0, f"{ours} refused logins"
    # Of two logins that alternate, each has one password.
    machines.check_end(plays, ended - {stored(plays)})
    ours = machines.refused() - before
    machines.log_in(Login("chat4all", "wrong"))
    assert machines.refused() == before + ours + 1, "a refused login is not seen"
