# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import state as states
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

ANNA, BEN = "anna@laptop process 1 #boot-a/4026531836", "ben@awx process 2 #boot-b/4026531836"


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
    with pytest.raises(SecretsError, match="taken over by ben@awx process 2 meanwhile"):
        states.keep(state, "r-1", ANNA)


def test_work_renews_the_lease(clock, tmp_path):
    file = states.StateFile(str(tmp_path / "state"))
    file.update(lambda state: states.take(state, "r-1", ANNA) and None)
    clock["seconds"] += states.LEASE - 1
    with states.kernel_lock(file.state_dir):
        pass
    clock["seconds"] += states.LEASE - 1
    assert states.lease_alive(file.read()["lease"])


def test_a_run_that_has_lost_the_lock_does_not_begin_its_work(clock, tmp_path):
    file = states.StateFile(str(tmp_path / "state"))
    file.update(lambda state: states.take(state, "r-1", ANNA) and None)
    with states.kernel_lock(file.state_dir, [{"step": "set"}], {"rotation": "r-1", "owner": ANNA}):
        pass
    with (
        pytest.raises(SecretsError, match="taken over by anna"),
        states.kernel_lock(file.state_dir, [{"step": "set"}], {"rotation": "r-1", "owner": BEN}),
    ):
        raise AssertionError("it has begun")
    assert file.read()["ledger"]["entries"] == 1


def test_work_that_fails_is_not_in_the_ledger_as_done(clock, tmp_path):
    file = states.StateFile(str(tmp_path / "state"))
    with pytest.raises(SecretsError), states.kernel_lock(file.state_dir, [{"step": "set"}]):
        raise SecretsError("it did not work")
    assert "ledger" not in file.read()


def test_work_does_not_bring_a_dead_lease_back(clock, tmp_path):
    file = states.StateFile(str(tmp_path / "state"))
    file.update(lambda state: states.take(state, "r-1", ANNA) and None)
    clock["seconds"] += states.LEASE
    with states.kernel_lock(file.state_dir):
        pass
    assert not states.lease_alive(file.read()["lease"])


def test_work_longer_than_the_lease_keeps_it(clock, tmp_path):
    file = states.StateFile(str(tmp_path / "state"))
    file.update(lambda state: states.take(state, "r-1", ANNA) and None)
    with states.kernel_lock(file.state_dir):
        clock["seconds"] += 3 * states.LEASE
    assert states.lease_alive(file.read()["lease"])


def test_a_clock_that_was_set_back_makes_no_lease_immortal(clock, monkeypatch):
    state = {}
    states.take(state, "r-1", ANNA)
    monkeypatch.setattr(states, "utc_now", lambda ahead=0: "1970-01-01T00:00:00+00:00")
    clock["seconds"] += states.LEASE
    assert not states.lease_alive(state["lease"])
    # A machine that was restored from a copy may have an earlier clock and the same boot id.
    clock["seconds"] -= 10 * states.LEASE
    assert not states.lease_alive(state["lease"])


def test_a_lock_that_was_taken_over_is_not_released_by_the_one_who_lost_it(clock):
    state = {}
    states.take(state, "r-1", ANNA)
    states.take(state, "r-1", BEN, dead=ANNA)
    with pytest.raises(SecretsError, match="taken over by ben@awx process 2 meanwhile"):
        states.release(state, "r-1", ANNA)
    states.release(state, "r-1", BEN)
    states.release(state, "r-1", BEN)
    assert state["lease"] is None


def test_an_unfinished_rotation_is_not_forgotten_when_another_credential_is_rotated(clock):
    state = {}
    states.note(state, "r-1", {"credential": "postgres", "step": "drain"})
    states.take(state, "r-2", BEN)
    states.note(state, "r-2", {"credential": "redis"})
    states.note(state, "r-2", {"step": "set"})
    states.release(state, "r-2", BEN)
    assert state["records"] == {"r-1": {"credential": "postgres", "step": "drain"}}
    states.note(state, "r-3", {"credential": "postgres"})
    assert state["records"] == {"r-3": {"credential": "postgres"}}


def test_another_store_does_not_make_the_target_forget(clock):
    state = {}
    states.remember_serial(state, "s", 44)
    states.remember_serial(state, "another", 1)
    with pytest.raises(SecretsError, match="git pull"):
        states.check_serial(state, "s", 43)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"lease": {"rotation": "r-1"}}'])
def test_a_damaged_state_is_refused_before_any_work(tmp_path, content):
    folder = tmp_path / "state"
    folder.mkdir(0o700)
    (folder / "state.json").write_bytes(content)
    with pytest.raises(SecretsError, match="is damaged; move it away"), states.kernel_lock(str(folder)):
        pytest.fail("worked")


@pytest.mark.parametrize(("serial", "fine"), [(44, True), (45, True), (41, False)])
def test_a_store_older_than_the_target_has_seen_is_refused(serial, fine):
    state = {"serials": {"s": 44}}
    if fine:
        states.remember_serial(state, "s", serial)
        assert state["serials"]["s"] == serial
    else:
        with pytest.raises(SecretsError, match="your store is serial 41, the target has seen 44: git pull"):
            states.remember_serial(state, "s", serial)


def test_a_module_at_work_has_the_target_remember_its_store(tmp_path):
    file = states.StateFile(str(tmp_path / "state"))
    holder = {"rotation": "r-1", "owner": ANNA, "store_id": "s", "serial": 7}
    file.update(lambda state: states.take(state, "r-1", ANNA))
    with states.kernel_lock(file.state_dir, holder=holder):
        pass
    assert file.read()["serials"] == {"s": 7}
    with (
        pytest.raises(SecretsError, match="your store is serial 6, the target has seen 7: git pull"),
        states.kernel_lock(file.state_dir, holder={**holder, "serial": 6}),
    ):
        pytest.fail("an older store was let in")


def test_the_kernel_lock_ends_with_its_process(tmp_path):
    folder = str(tmp_path / "state")
    code = (
        "import sys, time; from ansible_collections.chat4all.secrets.plugins.module_utils.state import kernel_lock\n"
        "with kernel_lock(sys.argv[1]):\n    print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(SecretsError, match=f"process {holder.pid}"), states.kernel_lock(folder, wait=0.2):
            pass
    finally:
        holder.kill()
        holder.wait()
    began = time.monotonic()
    with states.kernel_lock(folder, wait=30):
        assert time.monotonic() - began < 30


def test_who_works_is_named_with_module_rotation_and_process(tmp_path, monkeypatch):
    folder = str(tmp_path / "state")
    states.StateFile(folder).update(lambda state: states.take(state, "r-1", ANNA) and None)
    monkeypatch.setattr(sys, "argv", ["/tmp/x.zip/plugins/modules/env_file.py"])
    with (
        states.kernel_lock(folder),
        pytest.raises(
            SecretsError,
            match=rf"env_file for r-1 of {states.person(ANNA)} \(process {os.getpid()}, since .*is working",
        ),
        states.kernel_lock(folder, wait=0),
    ):
        pytest.fail("worked")
    # Modules of one rotation follow each other undisturbed.
    with states.kernel_lock(folder, wait=0):
        pass


def test_the_state_folder_is_made_but_never_the_project(tmp_path):
    with states.kernel_lock(str(tmp_path / "state")):
        pass
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    with (
        pytest.raises(SecretsError, match=f"{tmp_path}/typo: there is no such folder"),
        states.kernel_lock(str(tmp_path / "typo" / "state")),
    ):
        pytest.fail("worked")
    states.make_folder(str(tmp_path / "state" / "runs" / "r-1"))
    assert (tmp_path / "state" / "runs").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes things for others")
def test_what_root_makes_belongs_to_the_owner_of_the_project(tmp_path):
    os.chown(tmp_path, 1234, 2345)
    file = states.StateFile(str(tmp_path / "state"))
    file.update(lambda state: state.update(serials={}))
    for path in (tmp_path / "state", tmp_path / "state" / "lock", Path(file.path)):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)
    os.chown(tmp_path / "state", 4321, -1)
    with pytest.raises(SecretsError, match="belongs to user id 4321"):
        file.update(lambda state: None)


@pytest.mark.parametrize(
    ("kind", "words"), [("link", "is a link"), ("file", "is not a folder"), ("writable", "others may write there")]
)
def test_a_state_folder_that_is_not_ours_alone_is_refused(tmp_path, kind, words):
    folder = tmp_path / "state"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(SecretsError, match=f"{folder}: {words}"), states.kernel_lock(str(folder)):
        pass
