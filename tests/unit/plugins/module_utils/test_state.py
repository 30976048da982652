# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import state as states
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

ANNA, BEN = "anna@laptop process 1", "ben@awx process 2"


@pytest.fixture
def clock(monkeypatch):
    """The clock that nobody sets, set by the test."""
    now = {"seconds": 1000.0}
    monkeypatch.setattr(states, "boot_seconds", lambda: now["seconds"])
    return now


def test_who_holds_the_lock_since_when_and_how_to_clear_it_in_one_line(clock):
    state = {}
    states.take(state, "r-1", ANNA)
    with pytest.raises(SecretsError, match=r"anna@laptop process 1 holds the lock \(r-1, since .*\).*-e take_lock=r-1"):
        states.take(state, "r-2", BEN)


def test_the_same_rotation_run_twice_at_once_is_refused_too(clock):
    state = {}
    states.take(state, "r-1", ANNA)
    with pytest.raises(SecretsError):
        states.take(state, "r-1", BEN)
    assert state["lease"]["owner"] == ANNA


@pytest.mark.parametrize("way", [{"forced": "r-1"}, {"dead": ANNA}])
def test_a_lock_is_taken_over_by_force_or_from_an_owner_that_is_gone(clock, way):
    state = {}
    states.take(state, "r-1", ANNA)
    assert states.take(state, "r-2", BEN, **way) == "r-1"
    assert state["lease"]["owner"] == BEN


def test_a_lease_that_ran_out_is_dead(clock):
    state = {}
    states.take(state, "r-1", ANNA)
    clock["seconds"] += states.LEASE + 1
    assert states.take(state, "r-2", BEN) == "r-1"


def test_a_lease_of_an_earlier_boot_is_dead(clock, monkeypatch):
    state = {}
    states.take(state, "r-1", ANNA)
    monkeypatch.setattr(states, "boot_id", lambda: "another boot")
    assert states.take(state, "r-2", BEN) == "r-1"


def test_a_run_whose_lock_was_taken_over_may_not_go_on(clock):
    state = {}
    states.take(state, "r-1", ANNA)
    states.take(state, "r-2", BEN, forced="r-1")
    with pytest.raises(SecretsError, match="taken over by ben"):
        states.keep(state, "r-1", ANNA)


def test_work_renews_the_lease(clock, tmp_path):
    file = states.StateFile(str(tmp_path / "state"))
    file.update(lambda state: states.take(state, "r-1", ANNA) and None)
    clock["seconds"] += states.LEASE - 1
    with states.kernel_lock(file.state_dir):
        pass
    clock["seconds"] += states.LEASE - 1
    assert states.lease_alive(file.read()["lease"])


@pytest.mark.parametrize(("serial", "fine"), [(44, True), (45, True), (41, False)])
def test_a_store_older_than_the_target_has_seen_is_refused(serial, fine):
    state = {"store": {"id": "s", "serial": 44}}
    if fine:
        states.remember_serial(state, "s", serial)
        assert state["store"]["serial"] == serial
    else:
        with pytest.raises(SecretsError, match="your store is serial 41, the target has seen 44: git pull"):
            states.remember_serial(state, "s", serial)


def test_the_kernel_lock_ends_with_its_process(tmp_path):
    folder = str(tmp_path / "state")
    code = (
        "import sys, time; from ansible_collections.chat4all.secrets.plugins.module_utils.state import kernel_lock\n"
        "with kernel_lock(sys.argv[1]):\n    print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(SecretsError, match=f"process {holder.pid}"):
            with states.kernel_lock(folder, wait=0.2):
                pass
    finally:
        holder.kill()
        holder.wait()
    began = time.monotonic()
    with states.kernel_lock(folder, wait=30):
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("kind", ["link", "file", "writable"])
def test_a_state_folder_that_is_not_ours_alone_is_refused(tmp_path, kind):
    folder = tmp_path / "state"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(SecretsError, match=str(folder)):
        with states.kernel_lock(str(folder)):
            pass
