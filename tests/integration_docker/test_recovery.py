# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that was cut off goes on, or back, with the same command or the one that it names."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from outcome import check_settled, containers, log_in, stopped_at_drain, stored


def turn_back(plays) -> None:
    """Leave the store as an abort that was killed at its first step does."""
    vault = VaultLib([("default", VaultSecret(plays.password_file.read_bytes().strip()))])
    content = plays.store()
    content["secrets_credentials"]["postgres"]["pending"]["direction"] = "back"
    plays.store_path.write_bytes(vault.encrypt(yaml.safe_dump(content)))


def rotation_of_previous(plays) -> str:
    return plays.store()["secrets_credentials"]["postgres"]["previous"]["rotation"]


def test_the_first_rotation_writes_the_ledger(stack, plays):
    plays.rotate()
    rows = [json.loads(line) for line in (stack.directory / ".chat4all" / "ledger.jsonl").read_text().splitlines()]
    steps = ["open", "create", "set", "test", "publish", "roll_out", "drain", "finish", "revoke"]
    assert [row["step"] for row in rows] == steps
    assert {row["credential"] for row in rows} == {"postgres"} and len({row["rotation"] for row in rows}) == 1
    text = json.dumps(rows)
    assert [value for value in plays.secrets() if value in text] == []
    check_settled(stack, plays)


def test_status_names_a_ledger_that_was_changed(stack, plays):
    path = stack.directory / ".chat4all" / "ledger.jsonl"
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b'"set"', b'"get"', 1))
    status = plays.run("status.yml")
    path.write_bytes(kept)
    assert status.returncode != 0 and "ledger: BROKEN, line 4 was changed" in status.stdout


def test_a_stranger_with_the_old_value_stops_it_at_drain_and_the_same_command_goes_on(stack, plays):
    done = stopped_at_drain(stack, plays)
    assert "Go back    ansible-playbook chat4all.secrets.abort -e rotate=postgres" in done.stdout
    status = plays.run("status.yml")
    assert status.returncode != 0
    assert "unfinished at drain" in status.stdout and "rerun goes on" in " ".join(status.stdout.split())
    again = plays.run("rotate-db.yml")
    assert again.returncode == 0 and "RESUME" in again.stdout and "stopped in drain" in again.stdout, again.stdout
    check_settled(stack, plays)


def test_abort_goes_back_and_says_so(stack, plays):
    before = stored(plays)
    stopped_at_drain(stack, plays)
    new = stored(plays, "pending")
    plan = plays.run("abort.yml", "-e", "rotate=postgres", "--check")
    assert plan.returncode == 0 and f"back to {before.user}" in plan.stdout and stored(plays, "pending") == new
    done = plays.run("abort.yml", "-e", "rotate=postgres")
    assert done.returncode == 0 and "ABORTED  postgres" in done.stdout, done.stdout
    assert stored(plays) == before
    assert "password authentication failed" in log_in(stack, new)
    check_settled(stack, plays)


def test_there_is_nothing_to_abort(stack, plays):
    done = plays.run("abort.yml", "-e", "rotate=postgres")
    assert done.returncode != 0 and "nothing to go back from" in done.stdout


def test_a_way_back_that_was_cut_off_is_gone_to_its_end_with_one_block(stack, plays):
    before = stored(plays)
    stopped_at_drain(stack, plays)
    turn_back(plays)
    done = plays.run("rotate-db.yml")
    assert done.returncode != 0 and done.stdout.count("STOPPED  ") == 1, done.stdout
    assert "is still used by" in done.stdout
    assert stored(plays) == before
    plays.rotate()
    check_settled(stack, plays)


def by_hand(stack, user) -> None:
    stack.psql(f"ALTER ROLE {user} PASSWORD 'by-hand-0123456789'")


def test_nobody_is_sent_back_to_a_value_that_the_server_rejects(stack, plays, inventory):
    before = stored(plays)
    by_hand(stack, before.user)
    services = plays.variables["secrets_services"]
    inventory(secrets_services={**services, "message-service": {"failure_log": "Started"}})
    done = plays.run("rotate-db.yml", "-e", "drift=replace")
    inventory(secrets_services=services)
    text = " ".join(done.stdout.split())
    assert done.returncode != 0 and "STOPPED postgres at roll out: message-service failed" in text, text
    assert f"nobody is sent back: the server rejects {before.user}" in text
    pending = stored(plays, "pending")
    assert pending.password in (stack.directory / ".env").read_text()
    done = plays.run("rotate-db.yml")
    assert done.returncode == 0 and "RESUME" in done.stdout, done.stdout
    assert stored(plays).password == pending.password
    check_settled(stack, plays)


def test_a_way_back_whose_end_is_dead_turns_into_the_way_forward(stack, plays):
    before = stored(plays)
    stopped_at_drain(stack, plays)
    turn_back(plays)
    by_hand(stack, before.user)
    refused = plays.run("abort.yml", "-e", "rotate=postgres")
    assert refused.returncode != 0 and "there is no way back" in refused.stdout, refused.stdout
    plays.rotate()
    assert stored(plays).user != before.user
    check_settled(stack, plays)


def test_there_is_no_old_value_to_end(stack, plays):
    done = plays.run("revoke.yml", "-e", "revoke=postgres", "-e", "end_grace=true")
    assert done.returncode == 0 and "no old value is left to end" in done.stdout, done.stdout


def dead_at_its_end(stack, rotation) -> None:
    """Have the target remember a run that died between its last change of the store and the end of its lock."""
    path = stack.directory / ".chat4all" / "state.json"
    state = json.loads(path.read_text())
    assert not state["records"]
    state["records"] = {rotation: {"credential": "postgres", "rotation": rotation, "step": "roll_out"}}
    path.write_text(json.dumps(state))


def ledger(stack) -> list[tuple[str, str]]:
    rows = (stack.directory / ".chat4all" / "ledger.jsonl").read_text().splitlines()
    return [(row["rotation"], row["step"]) for row in map(json.loads, rows)]


@pytest.mark.parametrize("playbook", ["abort.yml", "revoke.yml"])
def test_a_run_that_died_at_its_very_end_is_ended_by_the_same_command(stack, plays, playbook):
    rotation = f"r-dead-at-{playbook}"
    dead_at_its_end(stack, rotation)
    status = plays.run("status.yml")
    assert status.returncode != 0 and "STOPPED" in status.stdout
    store = plays.store_path.read_bytes()
    plan = plays.run(playbook, "-e", "rotate=postgres", "--check")
    assert plan.returncode == 0 and plays.run("status.yml").returncode != 0
    done = plays.run(playbook, "-e", "rotate=postgres")
    assert done.returncode == 0 and f"{rotation} had ended, save for its lock" in done.stdout, done.stdout
    assert plays.store_path.read_bytes() == store
    assert [step for known, step in ledger(stack) if known == rotation] == ["back"] * (playbook == "abort.yml")
    check_settled(stack, plays)


def test_abort_records_no_way_back_for_a_run_that_died_after_its_last_change(stack, plays):
    plays.rotate()
    rotation, rows = rotation_of_previous(plays), ledger(stack)
    dead_at_its_end(stack, rotation)
    done = plays.run("abort.yml", "-e", "rotate=postgres")
    assert done.returncode == 0 and f"{rotation} had ended, save for its lock" in done.stdout, done.stdout
    assert ledger(stack) == rows and "aborted" not in plays.run("status.yml").stdout
    check_settled(stack, plays)


def test_a_service_that_was_skipped_keeps_a_valid_value_until_it_is_replaced(stack, plays):
    old = stored(plays)
    name = stack.containers("api-gateway")[0]
    stack.docker("pause", name)
    done = plays.run("rotate-db.yml", "-e", "skip_service=api-gateway")
    stack.docker("unpause", name)
    assert done.returncode == 0 and "api-gateway keeps the old value" in " ".join(done.stdout.split()), done.stdout
    assert log_in(stack, old) == "accepted"
    assert plays.run("status.yml").returncode != 0
    dead_at_its_end(stack, rotation_of_previous(plays))
    again = plays.run("rotate-db.yml", "-e", "skip_service=api-gateway")
    assert again.returncode == 0 and "had ended, save for its lock" in again.stdout, again.stdout
    assert log_in(stack, old) == "accepted"
    for playbook, argument in (("rotate-db.yml", "x=y"), ("revoke.yml", "revoke=postgres")):
        refused = plays.run(playbook, "-e", argument)
        assert refused.returncode != 0 and "api-gateway still has the old value" in refused.stdout, refused.stdout
    stack.compose("up", "-d", "api-gateway")
    stack.wait()
    ended = plays.run("revoke.yml", "-e", "revoke=postgres")
    assert ended.returncode == 0 and "old password refused" in ended.stdout, ended.stdout
    assert "REVOKED  postgres" in ended.stdout
    check_settled(stack, plays)


def test_with_a_grace_both_values_are_valid_until_it_is_ended(stack, plays, inventory):
    old = stored(plays)
    inventory(secrets_catalog={"postgres": {"grace": "1h"}})
    plays.rotate()
    assert log_in(stack, old) == "accepted"
    rotation, rows = rotation_of_previous(plays), ledger(stack)
    dead_at_its_end(stack, rotation)
    plays.rotate()
    assert ledger(stack) == [*rows, (rotation, "drain"), (rotation, "finish")]
    assert plays.run("status.yml").returncode == 0
    waiting = plays.run("revoke.yml")
    assert waiting.returncode == 0 and "end_grace=true" in waiting.stdout
    assert log_in(stack, old) == "accepted"
    refused = plays.run("rotate-db.yml")
    assert refused.returncode != 0 and "in its grace until" in refused.stdout
    plan = plays.run("revoke.yml", "-e", "revoke=postgres", "-e", "end_grace=true", "--check")
    assert plan.returncode == 0 and "the old value ends" in plan.stdout
    assert log_in(stack, old) == "accepted"
    ended = plays.run("revoke.yml", "-e", "revoke=postgres", "-e", "end_grace=true")
    assert ended.returncode == 0, ended.stdout
    check_settled(stack, plays)


def test_check_touches_nothing(stack, plays):
    state = stack.directory / ".chat4all"
    watched = [stack.directory / ".env", plays.store_path, state / "state.json", state / "ledger.jsonl"]
    before = [path.read_bytes() for path in watched], [one["Id"] for one in containers(stack)]
    done = plays.run("rotate-db.yml", "--check")
    assert done.returncode == 0 and "PLAN  postgres" in done.stdout and "nothing will be touched" in done.stdout
    assert ([path.read_bytes() for path in watched], [one["Id"] for one in containers(stack)]) == before
