# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What changed outside a run is found by asking the server, and mended as the operator says."""

from __future__ import annotations

import shutil
import time

from outcome import Login, check_settled, log_in, published, stopped_at_drain, stored

IMAGE = "chat4all-test/consumer:1"


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


def changed_by_hand(stack, plays) -> Login:
    """Somebody gives the current user another password, at the server and in ``.env``."""
    current, env = stored(plays), stack.directory / ".env"
    new = Login(current.user, f"by-hand-{time.time_ns()}")
    stack.psql(f"ALTER ROLE {new.user} PASSWORD '{new.password}'")
    env.write_text(env.read_text().replace(current.password, new.password))
    return new


def test_a_server_restored_from_before_the_last_rotation_gets_the_present_value_again(stack, plays, tmp_path):
    copied(stack, tmp_path)
    stack.wait()
    plays.rotate()
    kept = stored(plays)
    copied_back = plays.store_path.read_bytes()
    copied(stack, tmp_path, back=True)
    assert "password authentication failed" in log_in(stack, kept)
    plan = plays.run("rotate-db.yml", "--check")
    assert "RESTORED" in plan.stdout and plays.store_path.read_bytes() == copied_back
    done = plays.run("rotate-db.yml")
    assert done.returncode == 0 and "RESTORED" in done.stdout, done.stdout
    assert stored(plays).password == kept.password
    stack.wait()
    check_settled(stack, plays)


def test_a_value_that_nobody_knows_is_replaced_only_where_asked(stack, plays):
    stack.psql(f"ALTER ROLE {stored(plays).user} PASSWORD 'by-hand-0123456789'")
    refused = plays.run("rotate-db.yml")
    assert refused.returncode != 0 and "DRIFT postgres" in refused.stdout and "drift=replace" in refused.stdout
    neither = plays.run("adopt.yml", "-e", "accept=postgres")
    assert neither.returncode != 0 and "rotate -e rotate=postgres -e drift=replace" in " ".join(neither.stdout.split())
    done = plays.run("rotate-db.yml", "-e", "drift=replace")
    assert done.returncode == 0, done.stdout
    check_settled(stack, plays)


def without_its_logins(stack, plays) -> Login:
    """Make the server what a copy of before its first rotation is; returns the login that it accepts."""
    copy = Login("chat4all", f"of-the-copy-{time.time_ns()}")
    known = [stored(plays, slot) for slot in ("current", "previous", "admin")]
    for user in {login.user for login in known if login} - {copy.user}:
        stack.psql(f"DROP OWNED BY {user}; DROP ROLE {user}")
    stack.psql(f"ALTER ROLE {copy.user} PASSWORD '{copy.password}'")
    return copy


def test_a_server_restored_from_before_its_logins_existed_is_given_a_new_one(stack, plays):
    """All that the store knows is rejected there."""
    lost, copy = stored(plays), without_its_logins(stack, plays)
    refused = plays.run("rotate-db.yml")
    assert refused.returncode != 0 and "DRIFT postgres" in refused.stdout and "drift=replace" in refused.stdout
    done = plays.run("rotate-db.yml", "-e", "drift=replace")
    assert done.returncode == 0, done.stdout
    assert "chat4all: the password that somebody else had set is dead too" in done.stdout, done.stdout
    for login in (copy, lost):
        assert "password authentication failed" in log_in(stack, login)
    check_settled(stack, plays)


def in_grace(plays, inventory, grace: str = "1h") -> None:
    """Rotate so that both values are valid."""
    inventory(secrets_catalog={"postgres": {"grace": grace}})
    plays.rotate()


def end_grace(plays) -> None:
    done = plays.run("revoke.yml", "-e", "revoke=postgres", "-e", "end_grace=true")
    assert done.returncode == 0 and "REVOKED  postgres" in done.stdout, done.stdout


def replaced_in_grace(stack, plays) -> None:
    """What the server has may be a copy's, or somebody's: nobody can tell while the value before is valid as well."""
    refused = plays.run("rotate-db.yml")
    assert refused.returncode != 0 and "DRIFT postgres" in refused.stdout and "drift=replace" in refused.stdout
    plays.rotate("-e", "drift=replace")
    stack.wait()
    end_grace(plays)
    check_settled(stack, plays)


def test_a_server_restored_while_the_old_value_is_in_its_grace_is_given_a_new_one(stack, plays, inventory, tmp_path):
    copied(stack, tmp_path)
    stack.wait()
    in_grace(plays, inventory)
    copied(stack, tmp_path, back=True)
    replaced_in_grace(stack, plays)


def test_a_value_that_nobody_knows_is_replaced_although_the_one_before_is_in_its_grace(stack, plays, inventory):
    in_grace(plays, inventory)
    stack.psql(f"ALTER ROLE {stored(plays).user} PASSWORD 'by-hand-0123456789'")
    replaced_in_grace(stack, plays)


def test_a_server_restored_from_before_its_logins_existed_when_a_grace_is_over(stack, plays, inventory):
    in_grace(plays, inventory, "1s")
    time.sleep(1.5)
    copy = without_its_logins(stack, plays)
    plays.rotate("-e", "drift=replace")
    assert "password authentication failed" in log_in(stack, copy)
    end_grace(plays)
    check_settled(stack, plays)


def test_a_server_restored_in_the_middle_of_a_rotation_gets_the_present_value_again(stack, plays, tmp_path):
    copied(stack, tmp_path)
    stack.wait()
    plays.rotate()
    kept = stored(plays)
    stopped_at_drain(stack, plays)
    lost = stored(plays, "pending")
    copied(stack, tmp_path, back=True)
    assert "RESTORED" in plays.rotate() and stored(plays) == kept
    assert "password authentication failed" in log_in(stack, lost)
    stack.wait()
    check_settled(stack, plays)


def test_a_password_of_the_owner_that_no_store_knows_is_named_and_ended_only_where_asked(stack, plays):
    plays.rotate()
    foreign = Login("chat4all", "of-nobody-0123456789")
    stack.psql(f"ALTER ROLE {foreign.user} PASSWORD '{foreign.password}'")
    assert "chat4all has a password that is not the store's" in plays.rotate()
    assert log_in(stack, foreign) == "accepted"
    said = plays.rotate("-e", "drift=replace")
    assert "is not the store's" not in said and "is dead too" in said, said
    assert "password authentication failed" in log_in(stack, foreign)
    check_settled(stack, plays)


def test_an_older_store_without_a_newer_copy_takes_over_what_env_has(stack, plays):
    old = plays.store_path.read_bytes()
    plays.rotate()
    published = stored(plays)
    plays.store_path.write_bytes(old)
    for playbook in ("rotate-db.yml", "provision.yml"):
        refused = plays.run(playbook)
        assert refused.returncode != 0 and "git pull" in refused.stdout, refused.stdout
    assert plays.store_path.read_bytes() == old
    done = plays.run("provision.yml", "-e", "drift=accept")
    assert done.returncode == 0, done.stdout
    assert stored(plays).password == published.password
    plays.rotate()
    check_settled(stack, plays)


def test_an_older_store_whose_value_is_the_one_in_use_is_taken_as_it_is(stack, plays, inventory):
    in_grace(plays, inventory)
    old, kept = plays.store_path.read_bytes(), stored(plays)
    end_grace(plays)
    plays.store_path.write_bytes(old)
    refused = plays.run("status.yml")
    assert refused.returncode != 0 and "git pull" in refused.stdout, refused.stdout
    done = plays.run("provision.yml", "-e", "drift=accept")
    assert done.returncode == 0 and stored(plays) == kept, done.stdout
    end_grace(plays)
    check_settled(stack, plays)


def test_a_value_that_the_server_rejects_is_not_put_back_into_env(stack, plays):
    new = changed_by_hand(stack, plays)
    env, store = (stack.directory / ".env").read_bytes(), plays.store_path.read_bytes()
    refused = plays.run("provision.yml", "-e", "drift=replace")
    assert refused.returncode != 0 and "postgres rejects the store's value" in refused.stdout, refused.stdout
    assert "rotate -e rotate=postgres -e drift=replace" in refused.stdout
    assert ((stack.directory / ".env").read_bytes(), plays.store_path.read_bytes()) == (env, store)
    status = plays.run("status.yml")
    said = "DRIFT: server rejects the store's value; accepts .env's -> adopt -e accept=postgres"
    assert status.returncode != 0 and said in " ".join(status.stdout.split()), status.stdout
    done = plays.run("adopt.yml", "-e", "accept=postgres")
    assert done.returncode == 0 and stored(plays).password == new.password, done.stdout
    assert (stack.directory / ".env").read_bytes() == env
    again = plays.run("adopt.yml", "-e", "accept=postgres")
    assert again.returncode == 0 and ".env holds the store's value already" in again.stdout, again.stdout
    stack.compose("up", "-d")
    stack.wait()
    plays.rotate()
    check_settled(stack, plays)


def test_a_server_that_is_down_does_not_hinder_the_stores_value(stack, plays):
    path = stack.directory / ".env"
    before = path.read_text()
    path.write_text(before.replace(stored(plays).password, "typed-by-mistake"))
    [server] = stack.containers("postgres")
    stack.docker("stop", server)
    done = plays.run("provision.yml", "-e", "drift=replace")
    assert done.returncode == 0 and "cannot be asked" in done.stdout, done.stdout
    assert path.read_text() == before
    stack.compose("up", "-d")
    stack.wait()
    plays.rotate()
    check_settled(stack, plays)


def test_accepting_what_the_server_does_not_accept_is_refused(stack, plays):
    env, store = stack.directory / ".env", plays.store_path.read_bytes()
    kept = stack.directory / "kept"
    shutil.copy2(env, kept)
    password = stored(plays).password
    env.write_text(env.read_text().replace(password, "neither-here-nor-there-0123456789"))
    done = plays.run("provision.yml", "-e", "drift=accept")
    shutil.move(kept, env)
    assert done.returncode != 0 and "does not accept .env's value either" in done.stdout, done.stdout
    assert plays.store_path.read_bytes() == store
    check_settled(stack, plays)


def test_accepting_what_env_has_forgets_no_old_value_that_is_still_valid(stack, plays, inventory):
    old = stored(plays)
    inventory(secrets_catalog={"postgres": {"grace": "1h"}})
    plays.rotate()
    changed_by_hand(stack, plays)
    done = plays.run("provision.yml", "-e", "drift=accept")
    assert done.returncode == 0, done.stdout
    assert log_in(stack, old) == "accepted"
    stack.compose("up", "-d")
    stack.wait()
    ended = plays.run("revoke.yml", "-e", "revoke=postgres", "-e", "end_grace=true")
    assert ended.returncode == 0 and "old password refused" in ended.stdout, ended.stdout
    assert "password authentication failed" in log_in(stack, old)
    check_settled(stack, plays)


def test_accepting_what_env_has_forgets_no_login_of_an_unfinished_rotation(stack, plays):
    stopped_at_drain(stack, plays)
    old, new = stored(plays), stored(plays, "pending")
    password = f"by-hand-{time.time_ns()}"
    stack.psql(f"ALTER ROLE {new.user} PASSWORD '{password}'")
    env = stack.directory / ".env"
    env.write_text(env.read_text().replace(new.password, password))
    done = plays.run("provision.yml", "-e", "drift=accept")
    assert done.returncode == 0 and stored(plays) == (new.user, password), done.stdout
    assert log_in(stack, old) == "accepted"
    status = plays.run("status.yml")
    assert status.returncode != 0 and f"old value of {old.user} valid, is to be ended" in " ".join(
        status.stdout.split()
    )
    stack.compose("up", "-d")
    stack.wait()
    plays.rotate()
    assert "password authentication failed" in log_in(stack, old)
    check_settled(stack, plays)


def test_where_the_vault_password_is_lost_a_new_store_is_read_from_env(stack, plays):
    stopped_at_drain(stack, plays)
    old, store = stored(plays), plays.store()
    kept, lost = plays.store_path.read_bytes(), plays.password_file.read_text()
    plays.password_file.write_text("another-vault-password-0123456789\n")
    refused = plays.run("status.yml")
    assert refused.returncode != 0 and "the vault password does not open it" in refused.stdout, refused.stdout
    before = sorted(path.name for path in plays.folder.iterdir())
    check = plays.run("adopt.yml", "-e", "reseal=true", "--check")
    assert check.returncode == 0 and sorted(path.name for path in plays.folder.iterdir()) == before, check.stdout

    done = plays.run("adopt.yml", "-e", "reseal=true")
    assert done.returncode == 0 and "the unfinished r-" in done.stdout, done.stdout
    assert stored(plays) == published(stack) != old
    assert plays.store()["secrets_store"]["id"] != store["secrets_store"]["id"]
    [aside] = {path.name for path in plays.folder.iterdir()} - set(before)
    assert (plays.folder / aside).read_bytes() == kept and (plays.folder / aside).stat().st_mode & 0o777 == 0o600
    assert lost.strip() not in done.stdout
    again = plays.run("adopt.yml", "-e", "reseal=true")
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
    # What the old store alone knew may be valid still, the owner's own password among it.
    plays.rotate("-e", "drift=replace")
    assert "password authentication failed" in log_in(stack, old)
    check_settled(stack, plays)
