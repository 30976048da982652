# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import state as states
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.modules import deployment_state

DEFAULTS = {
    "rotation": None,
    "owner": None,
    "take_lock": None,
    "dead_owner": None,
    "store_id": None,
    "serial": None,
    "record": {},
    "forget": True,
    "ledger": [],
    "outcome": {},
}
ANNA = {"rotation": "r-1", "owner": "anna@laptop"}
BEN = {"rotation": "r-2", "owner": "ben@awx"}


@pytest.fixture
def run(tmp_path):
    def run(action, check_mode=False, **options):
        params = {**DEFAULTS, "path": str(tmp_path / "state"), "action": action, **options}
        return deployment_state.carry_out(params, check_mode)

    return run


def test_a_deployment_that_was_never_touched_has_no_state_and_reading_makes_none(run, tmp_path):
    result = run("read", store_id="s", serial=3)
    assert (result["lock"], result["record"], result["records"], result["highest_serial"]) == (None, {}, [], 0)
    assert not list(tmp_path.iterdir())


def test_a_rotation_from_beginning_to_end(run):
    taken = run("take", **ANNA, store_id="s", serial=3, record={"credential": "postgres", "rotation": "r-1"})
    assert set(taken["lock"]) == {"rotation", "owner", "since", "expires"} and taken["took_over"] is None
    run("keep", **ANNA, store_id="s", serial=4, record={"step": "create"})
    seen = run("read", store_id="s", serial=4)
    assert seen["record"] == {"credential": "postgres", "rotation": "r-1", "step": "create"}
    assert (seen["lock"]["owner"], seen["highest_serial"]) == ("anna@laptop", 4)
    done = run("release", rotation="r-1", store_id="s", serial=5, outcome={"postgres": "ok"})
    assert (done["lock"], done["records"], done["highest_serial"]) == (None, [], 5)
    assert done["outcomes"] == {"postgres": "ok"}


def test_the_ledger_grows_with_the_steps_and_is_read_with_the_state(run, tmp_path):
    step = {"rotation": "r-1", "credential": "postgres", "step": "create", "state": "done"}
    run("take", **ANNA, ledger=[step])
    run("keep", **ANNA, ledger=[step, step])
    assert run("read")["ledger"] == {"entries": 3, "problem": ""}
    ledger = tmp_path / "state" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"create", b"revoke", 1))
    assert "line 2 was changed" in run("read")["ledger"]["problem"]


def test_a_refusal_adds_nothing_to_the_ledger(run):
    run("take", **ANNA, ledger=[{"step": "open"}])
    with pytest.raises(SecretsError):
        run("keep", **BEN, ledger=[{"step": "create"}])
    assert run("read")["ledger"]["entries"] == 1


def test_what_is_unfinished_stays_remembered_where_only_the_lock_ends(run):
    run("take", **ANNA, record={"credential": "postgres", "step": "set"})
    done = run("release", **ANNA, forget=False)
    assert (done["lock"], done["record"]["step"]) == (None, "set")


def test_a_refusal_leaves_the_state_as_it_is(run, tmp_path):
    run("take", **ANNA, store_id="s", serial=44, record={"credential": "postgres"})
    before = (tmp_path / "state" / "state.json").read_bytes()
    for action, options, words in (
        ("take", BEN, "anna@laptop holds the lock"),
        ("keep", BEN, "taken over by anna"),
        ("release", BEN, "taken over by anna"),
        ("keep", {**ANNA, "store_id": "s", "serial": 41, "record": {"step": "x"}}, "git pull"),
        ("take", {**BEN, "take_lock": "r-1", "store_id": "s", "serial": 41}, "git pull"),
        ("read", {"store_id": "s", "serial": 41}, "git pull"),
    ):
        with pytest.raises(SecretsError, match=words):
            run(action, **options)
    assert (tmp_path / "state" / "state.json").read_bytes() == before


def test_check_mode_refuses_what_the_run_would_and_writes_nothing(run, tmp_path):
    assert run("take", check_mode=True, **ANNA)["lock"]["rotation"] == "r-1"
    assert not list(tmp_path.iterdir())
    run("take", **ANNA)
    with pytest.raises(SecretsError, match="holds the lock"):
        run("take", check_mode=True, **BEN)
    run("release", check_mode=True, **ANNA)
    assert run("read")["lock"]["rotation"] == "r-1"


def test_a_dead_lock_is_taken_over_and_that_is_said(run, monkeypatch):
    run("take", **ANNA, record={"credential": "redis", "step": "set"})
    monkeypatch.setattr(states, "boot_id", lambda: "another boot")
    assert run("read")["lock"] is None
    taken = run("take", **BEN, record={"credential": "postgres"})
    assert taken["took_over"] == "r-1"
    assert taken["record"] == {"credential": "postgres"}
    assert [record["credential"] for record in taken["records"]] == ["redis", "postgres"]
