# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What went wrong between two runs is found by looking, and the same command, or the one that it names, mends it."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from plays import Plays

IMAGE = "chat4all-test/consumer:1"


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    """The playbooks for that stack, provisioned and in a hurry."""
    plays = Plays(
        tmp_path_factory.mktemp("inventory"),
        stack.directory,
        rotate_rollout={"quiet": 0.3, "settle": 0.3},
        rotate_drain={"quiet": 0.5, "timeout": 3},
    )
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    return plays


def entry(plays) -> dict:
    return plays.store()["secrets_credentials"]["postgres"]


def log_in(stack, slot) -> str:
    """Log in over the containers' network; return the users, or what the server says."""
    code = (
        "import sys, psycopg2\n"
        "user, password = sys.stdin.read().split()\n"
        "try:\n"
        "    c = psycopg2.connect(host='postgres', dbname='chat4all', user=user, password=password).cursor()\n"
        "    c.execute('select current_user, session_user')\n"
        "    print(*c.fetchone())\n"
        "except psycopg2.OperationalError as error:\n"
        "    print(error)\n"
    )
    container = stack.containers("message-service")[0]
    return stack.docker(
        "exec", "-i", container, "python3", "-c", code, stdin=f"{slot['user']} {slot['password']}"
    ).strip()


def is_settled(stack, plays) -> None:
    """One valid, stored, deployed credential, and nothing left over."""
    now, env = entry(plays), dotenv.values((stack.directory / ".env").read_text())
    current = now["current"]
    assert "pending" not in now and "revoked" in now.get("previous", {"revoked": True})
    assert (env.get("POSTGRES_USER", "chat4all"), env["POSTGRES_PASSWORD"]) == (current["user"], current["password"])
    assert log_in(stack, current) == f"chat4all {current['user']}"
    if now.get("previous"):
        assert "password authentication failed" in log_in(stack, now["previous"])
    for service in stack.consumers:
        [name] = stack.containers(service, running=False)
        facts = json.loads(stack.docker("inspect", name))[0]
        assert f"SPRING_DATASOURCE_PASSWORD={current['password']}" in facts["Config"]["Env"]
        assert facts["State"]["Health"]["Status"] == "healthy"
    status = plays.run("status.yml")
    assert status.returncode == 0, status.stdout
    assert "current=env=server; 4/4 services" in " ".join(status.stdout.split())
    assert "lock: none" in status.stdout and "ledger: intact" in status.stdout


def rewrite(plays, change) -> None:
    """Change the store by hand, as with ``ansible-vault edit``."""
    vault = VaultLib([("default", VaultSecret(plays.password_file.read_bytes().strip()))])
    content = plays.store()
    change(content)
    plays.store_path.write_bytes(vault.encrypt(yaml.safe_dump(content)))


def copied(stack, folder, back: bool = False) -> None:
    """Copy the stopped server's files away, or the copy back, and start the server again."""
    server = stack.containers("postgres")[0]
    stack.docker("stop", server)
    data = "/var/lib/postgresql/data"
    script = f"rm -rf {data}/* && cp -a /copy/. {data}/" if back else f"cp -a {data}/. /copy/"
    options = ("--volumes-from", server, "--volume", f"{folder}:/copy", "--user", "0:0", "--entrypoint", "sh")
    stack.docker("run", "--rm", *options, IMAGE, "-c", script)
    stack.docker("start", server)
    while stack.docker("inspect", "--format", "{{.State.Health.Status}}", server).strip() != "healthy":
        time.sleep(0.2)


def changed_by_hand(stack, plays) -> dict:
    """Somebody gives the current user another password, at the server and in ``.env``."""
    current, env = entry(plays)["current"], stack.directory / ".env"
    new = {"user": current["user"], "password": f"by-hand-{time.time_ns()}"}
    stack.psql(f"ALTER ROLE {new['user']} PASSWORD '{new['password']}'")
    env.write_text(env.read_text().replace(current["password"], new["password"]))
    return new


def rotated(plays) -> None:
    done = plays.run("rotate-db.yml")
    assert done.returncode == 0, done.stdout


def stopped_at_drain(stack, plays):
    """Have a rotation that cannot go on because a stranger uses the old value."""
    with stack.foreign_session(entry(plays)["current"]):
        done = plays.run("rotate-db.yml")
        assert done.returncode != 0 and "STOPPED  postgres at drain" in done.stdout, done.stdout
    return done


def test_the_first_rotation_writes_the_ledger(stack, plays):
    rotated(plays)
    rows = [json.loads(line) for line in (stack.directory / ".chat4all" / "ledger.jsonl").read_text().splitlines()]
    steps = ["open", "create", "set", "test", "publish", "roll_out", "drain", "finish", "revoke"]
    assert [row["step"] for row in rows] == steps
    assert {row["credential"] for row in rows} == {"postgres"} and len({row["rotation"] for row in rows}) == 1
    text = json.dumps(rows)
    assert [value for value in plays.secrets() if value in text] == []
    is_settled(stack, plays)


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
    is_settled(stack, plays)


def test_abort_goes_back_and_says_so(stack, plays):
    before = entry(plays)["current"]
    stopped_at_drain(stack, plays)
    new = entry(plays)["pending"]
    plan = plays.run("abort.yml", "-e", "rotate=postgres", "--check")
    assert plan.returncode == 0 and f"back to {before['user']}" in plan.stdout and entry(plays)["pending"] == new
    done = plays.run("abort.yml", "-e", "rotate=postgres")
    assert done.returncode == 0 and "ABORTED  postgres" in done.stdout, done.stdout
    assert entry(plays)["current"] == before
    assert "password authentication failed" in log_in(stack, new)
    is_settled(stack, plays)


def test_there_is_nothing_to_abort(stack, plays):
    done = plays.run("abort.yml", "-e", "rotate=postgres")
    assert done.returncode != 0 and "nothing to go back from" in done.stdout


def test_a_way_back_that_was_cut_off_is_gone_to_its_end_with_one_block(stack, plays):
    before = entry(plays)["current"]
    stopped_at_drain(stack, plays)
    rewrite(plays, lambda all: all["secrets_credentials"]["postgres"]["pending"].update(direction="back"))
    done = plays.run("rotate-db.yml")
    assert done.returncode != 0 and done.stdout.count("STOPPED  ") == 1, done.stdout
    assert "is still used by" in done.stdout
    assert entry(plays)["current"] == before
    rotated(plays)
    is_settled(stack, plays)


def by_hand(stack, user) -> None:
    stack.psql(f"ALTER ROLE {user} PASSWORD 'by-hand-0123456789'")


def test_nobody_is_sent_back_to_a_value_that_the_server_rejects(stack, plays):
    before = entry(plays)["current"]
    by_hand(stack, before["user"])
    services = plays.variables["secrets_services"]
    plays.variables["secrets_services"] = {**services, "message-service": {"failure_log": "Started"}}
    plays.write_inventory()
    done = plays.run("rotate-db.yml", "-e", "drift=replace")
    plays.variables["secrets_services"] = services
    plays.write_inventory()
    text = " ".join(done.stdout.split())
    assert done.returncode != 0 and "STOPPED postgres at roll out: message-service failed" in text, text
    assert f"nobody is sent back: the server rejects {before['user']}" in text
    pending = entry(plays)["pending"]
    assert pending["password"] in (stack.directory / ".env").read_text()
    done = plays.run("rotate-db.yml")
    assert done.returncode == 0 and "RESUME" in done.stdout, done.stdout
    assert entry(plays)["current"]["password"] == pending["password"]
    is_settled(stack, plays)


def test_a_way_back_whose_end_is_dead_turns_into_the_way_forward(stack, plays):
    before = entry(plays)["current"]
    stopped_at_drain(stack, plays)
    rewrite(plays, lambda all: all["secrets_credentials"]["postgres"]["pending"].update(direction="back"))
    by_hand(stack, before["user"])
    refused = plays.run("abort.yml", "-e", "rotate=postgres")
    assert refused.returncode != 0 and "there is no way back" in refused.stdout, refused.stdout
    rotated(plays)
    assert entry(plays)["current"]["user"] != before["user"]
    is_settled(stack, plays)


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
    is_settled(stack, plays)


def test_a_server_restored_from_before_the_last_rotation_gets_the_present_value_again(stack, plays, tmp_path):
    copied(stack, tmp_path)
    stack.wait()
    rotated(plays)
    kept = entry(plays)["current"]
    copied_back = plays.store_path.read_bytes()
    copied(stack, tmp_path, back=True)
    assert "password authentication failed" in log_in(stack, kept)
    plan = plays.run("rotate-db.yml", "--check")
    assert "RESTORED" in plan.stdout and plays.store_path.read_bytes() == copied_back
    done = plays.run("rotate-db.yml")
    assert done.returncode == 0 and "RESTORED" in done.stdout, done.stdout
    assert entry(plays)["current"]["password"] == kept["password"]
    stack.wait()
    is_settled(stack, plays)


def test_a_value_that_nobody_knows_is_replaced_only_where_asked(stack, plays):
    user = entry(plays)["current"]["user"]
    by_hand(stack, user)
    refused = plays.run("rotate-db.yml")
    assert refused.returncode != 0 and "DRIFT postgres" in refused.stdout and "drift=replace" in refused.stdout
    done = plays.run("rotate-db.yml", "-e", "drift=replace")
    assert done.returncode == 0, done.stdout
    is_settled(stack, plays)


def test_a_server_restored_from_before_its_logins_existed_is_given_a_new_one(stack, plays):
    """All that the store knows is rejected there."""
    now = entry(plays)
    lost = now["current"]
    for user in {now[slot]["user"] for slot in ("current", "previous", "admin") if now.get(slot)} - {"chat4all"}:
        stack.psql(f"DROP OWNED BY {user}; DROP ROLE {user}")
    stack.psql("ALTER ROLE chat4all PASSWORD 'of-the-copy-0123456789'")
    refused = plays.run("rotate-db.yml")
    assert refused.returncode != 0 and "DRIFT postgres" in refused.stdout and "drift=replace" in refused.stdout
    done = plays.run("rotate-db.yml", "-e", "drift=replace")
    assert done.returncode == 0, done.stdout
    assert "password authentication failed" in log_in(stack, lost)
    is_settled(stack, plays)


def test_an_older_store_without_a_newer_copy_takes_over_what_env_has(stack, plays):
    old = plays.store_path.read_bytes()
    rotated(plays)
    published = entry(plays)["current"]
    plays.store_path.write_bytes(old)
    for playbook in ("rotate-db.yml", "provision.yml"):
        refused = plays.run(playbook)
        assert refused.returncode != 0 and "git pull" in refused.stdout, refused.stdout
    assert plays.store_path.read_bytes() == old
    done = plays.run("provision.yml", "-e", "drift=accept")
    assert done.returncode == 0, done.stdout
    assert entry(plays)["current"]["password"] == published["password"]
    rotated(plays)
    is_settled(stack, plays)


def test_a_value_that_the_server_rejects_is_not_put_back_into_env(stack, plays):
    new = changed_by_hand(stack, plays)
    env, store = (stack.directory / ".env").read_bytes(), plays.store_path.read_bytes()
    refused = plays.run("provision.yml", "-e", "drift=replace")
    assert refused.returncode != 0 and "postgres rejects the store's value" in refused.stdout, refused.stdout
    assert "rotate -e rotate=postgres -e drift=replace" in refused.stdout
    assert ((stack.directory / ".env").read_bytes(), plays.store_path.read_bytes()) == (env, store)
    done = plays.run("provision.yml", "-e", "drift=accept")
    assert done.returncode == 0 and entry(plays)["current"]["password"] == new["password"], done.stdout
    stack.compose("up", "-d")
    stack.wait()
    rotated(plays)
    is_settled(stack, plays)


def test_a_server_that_is_down_does_not_hinder_the_stores_value(stack, plays):
    path = stack.directory / ".env"
    before = path.read_text()
    path.write_text(before.replace(entry(plays)["current"]["password"], "typed-by-mistake"))
    [server] = stack.containers("postgres")
    stack.docker("stop", server)
    done = plays.run("provision.yml", "-e", "drift=replace")
    assert done.returncode == 0 and "cannot be asked" in done.stdout, done.stdout
    assert path.read_text() == before
    stack.compose("up", "-d")
    stack.wait()
    rotated(plays)
    is_settled(stack, plays)


def test_accepting_what_the_server_does_not_accept_is_refused(stack, plays):
    env, store = stack.directory / ".env", plays.store_path.read_bytes()
    kept = stack.directory / "kept"
    shutil.copy2(env, kept)
    password = entry(plays)["current"]["password"]
    env.write_text(env.read_text().replace(password, "neither-here-nor-there-0123456789"))
    done = plays.run("provision.yml", "-e", "drift=accept")
    shutil.move(kept, env)
    assert done.returncode != 0 and "does not accept .env's value either" in done.stdout, done.stdout
    assert plays.store_path.read_bytes() == store
    is_settled(stack, plays)


def test_a_service_that_was_skipped_keeps_a_valid_value_until_it_is_replaced(stack, plays):
    old = entry(plays)["current"]
    name = stack.containers("api-gateway")[0]
    stack.docker("pause", name)
    done = plays.run("rotate-db.yml", "-e", "skip_service=api-gateway")
    stack.docker("unpause", name)
    assert done.returncode == 0 and "api-gateway keeps the old value" in " ".join(done.stdout.split()), done.stdout
    assert log_in(stack, old) == f"chat4all {old['user']}"
    assert plays.run("status.yml").returncode != 0
    dead_at_its_end(stack, entry(plays)["previous"]["rotation"])
    again = plays.run("rotate-db.yml", "-e", "skip_service=api-gateway")
    assert again.returncode == 0 and "had ended, save for its lock" in again.stdout, again.stdout
    assert log_in(stack, old) == f"chat4all {old['user']}"
    for playbook, argument in (("rotate-db.yml", "x=y"), ("revoke.yml", "revoke=postgres")):
        refused = plays.run(playbook, "-e", argument)
        assert refused.returncode != 0 and "api-gateway still has the old value" in refused.stdout, refused.stdout
    stack.compose("up", "-d", "api-gateway")
    stack.wait()
    ended = plays.run("revoke.yml", "-e", "revoke=postgres")
    assert ended.returncode == 0 and "old password refused" in ended.stdout, ended.stdout
    assert "REVOKED  postgres" in ended.stdout
    is_settled(stack, plays)


def test_with_a_grace_both_values_are_valid_until_it_is_ended(stack, plays):
    old = entry(plays)["current"]
    plays.variables["secrets_catalog"] = {"postgres": {"grace": "1h"}}
    plays.write_inventory()
    rotated(plays)
    assert log_in(stack, old) == f"chat4all {old['user']}"
    rotation, rows = entry(plays)["previous"]["rotation"], ledger(stack)
    dead_at_its_end(stack, rotation)
    rotated(plays)
    assert ledger(stack) == [*rows, (rotation, "drain"), (rotation, "finish")]
    assert plays.run("status.yml").returncode == 0
    waiting = plays.run("revoke.yml")
    assert waiting.returncode == 0 and "end_grace=true" in waiting.stdout
    assert log_in(stack, old) == f"chat4all {old['user']}"
    refused = plays.run("rotate-db.yml")
    assert refused.returncode != 0 and "in its grace until" in refused.stdout
    plan = plays.run("revoke.yml", "-e", "revoke=postgres", "-e", "end_grace=true", "--check")
    assert plan.returncode == 0 and "the old value ends" in plan.stdout
    assert log_in(stack, old) == f"chat4all {old['user']}"
    ended = plays.run("revoke.yml", "-e", "revoke=postgres", "-e", "end_grace=true")
    assert ended.returncode == 0, ended.stdout
    is_settled(stack, plays)


def test_accepting_what_env_has_forgets_no_old_value_that_is_still_valid(stack, plays):
    old = entry(plays)["current"]
    plays.variables["secrets_catalog"] = {"postgres": {"grace": "1h"}}
    plays.write_inventory()
    rotated(plays)
    changed_by_hand(stack, plays)
    done = plays.run("provision.yml", "-e", "drift=accept")
    assert done.returncode == 0, done.stdout
    assert log_in(stack, old) == f"chat4all {old['user']}"
    stack.compose("up", "-d")
    stack.wait()
    ended = plays.run("revoke.yml", "-e", "revoke=postgres", "-e", "end_grace=true")
    assert ended.returncode == 0 and "old password refused" in ended.stdout, ended.stdout
    assert "password authentication failed" in log_in(stack, old)
    is_settled(stack, plays)


def test_check_touches_nothing(stack, plays):
    state = stack.directory / ".chat4all"
    watched = [stack.directory / ".env", plays.store_path, state / "state.json", state / "ledger.jsonl"]
    before = [path.read_bytes() for path in watched], stack.docker("ps", "--all", "--quiet", "--no-trunc")
    done = plays.run("rotate-db.yml", "--check")
    assert done.returncode == 0 and "PLAN  postgres" in done.stdout and "nothing will be touched" in done.stdout
    assert ([path.read_bytes() for path in watched], stack.docker("ps", "--all", "--quiet", "--no-trunc")) == before
