# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody else works on the same deployment: edits .env, changes a password at the server, rotates too."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable

import moments
import pytest
from outcome import Login, check_end, containers, published, services_work, stored
from plays import Plays
from stack import Stack

BY_HAND = "by-hand-0123456789"


def edit_env(stack: Stack) -> Callable[[], None]:
    """Put another password into ``.env``, as a person would; the result undoes it."""
    env = stack.directory / ".env"
    kept = env.read_text()
    env.write_text(re.sub(r"(?m)^POSTGRES_PASSWORD=.*$", f"POSTGRES_PASSWORD={BY_HAND}", kept))
    return lambda: env.write_text(kept)


def set_password(stack: Stack, user: str, password: str) -> None:
    stack.psql(f"ALTER ROLE {user} PASSWORD '{password}'")


def ids(stack: Stack) -> set[str]:
    return {one["Id"] for one in containers(stack)}


def test_env_is_edited_by_hand_in_each_phase(stack, plays):
    """Before open: tests/integration_docker/test_bad_input.py."""
    old, undo = published(stack), []
    before = ids(stack)

    run = moments.run(plays, at={"publish": lambda _pid: undo.append(edit_env(stack))})
    assert published(stack).password == BY_HAND, "what somebody else wrote was overwritten"
    run.stopped("DRIFT postgres", "POSTGRES_PASSWORD")
    assert ids(stack) == before, "something was deployed"
    services_work(stack)
    undo.pop()()

    run = moments.run(plays)
    if run.returncode:
        run.stopped("working")
    else:
        run.rotated()
    old = published(stack)

    def edit_when_published(_pid: int) -> None:
        before.clear()
        before.update(ids(stack))
        undo.append(edit_env(stack))

    run = moments.run(plays, at={"roll_out": edit_when_published})
    assert published(stack).password == BY_HAND, "what somebody else wrote was overwritten"
    run.stopped("DRIFT postgres", "POSTGRES_PASSWORD")
    assert ids(stack) == before, "something was deployed"
    services_work(stack)
    undo.pop()()

    run = moments.run(plays)
    if run.returncode:
        run.stopped("working")
    # When all have what is stored, it is the same as an edit after the rotation.
    run = moments.run(plays, at={"drain": lambda _pid: undo.append(edit_env(stack))})
    run.rotated()
    assert published(stack).password == BY_HAND, "what somebody else wrote was overwritten"
    services_work(stack)
    status = moments.run(plays, "status.yml")
    assert status.returncode
    assert "DRIFT" in status.stdout
    moments.run(plays).refused("DRIFT postgres", "POSTGRES_PASSWORD")
    undo.pop()()
    check_end(stack, plays, [old])


def test_the_servers_password_is_changed_before_open(stack, plays):
    current = published(stack)
    before, store = ids(stack), plays.store_path.read_bytes()
    set_password(stack, current.user, BY_HAND)
    run = moments.run(plays)
    set_password(stack, *current)
    run.refused("DRIFT postgres", "rejects the store's value")
    assert (ids(stack), plays.store_path.read_bytes(), published(stack)) == (before, store, current)
    stack.wait()


def test_the_servers_password_is_changed_in_each_phase(stack, plays):
    old, dead = published(stack), []

    def change_new(_pid: int) -> None:
        dead.append(stored(plays, "pending"))
        set_password(stack, dead[-1].user, BY_HAND)

    # Of the new user, once it is set: what is to use it first fails, and all goes back.
    run = moments.run(plays, at={"test": change_new})
    run.stopped("at roll out", "password authentication failed")
    assert published(stack) == old
    dead.append(Login(dead[-1].user, BY_HAND))
    check_end(stack, plays, dead)

    # Of the new user, when all have moved: the old one, which alone works now, is not ended.
    def change_current(_pid: int) -> None:
        set_password(stack, stored(plays).user, BY_HAND)

    run = moments.run(plays, at={"revoke": change_current})
    new = stored(plays)
    run.stopped("at revoke", "the server holds another password", new.user)
    set_password(stack, *new)
    stack.wait()
    run = moments.run(plays)
    assert run.returncode == 0, run.stdout
    check_end(stack, plays, [old, *dead])
    assert stored(plays) == new


def test_the_old_users_password_is_changed_on_the_way(stack, plays):
    """The way forward is open, and the services need it. What ends with the old user is said."""
    old = published(stack)
    run = moments.run(plays, at={"test": lambda _pid: set_password(stack, old.user, BY_HAND)})
    run.rotated()
    assert f"{old.user}: the password that somebody else had set is dead too" in run.flat
    check_end(stack, plays, [old, Login(old.user, BY_HAND)])


@pytest.fixture(scope="module")
def colleague(plays, tmp_path_factory) -> Plays:
    """The same deployment from another controller: its own checkout of the inventory, with a copy of the store."""
    folder = tmp_path_factory.mktemp("colleague") / "inventory"
    shutil.copytree(plays.folder, folder)
    return Plays(folder, plays.project_dir, **plays.variables)


def sync(plays: Plays, colleague: Plays) -> None:
    """What ``git pull`` does."""
    shutil.copy2(plays.store_path, colleague.store_path)


SOMEBODY_ELSE = {"LOGNAME": "colleague"}


def test_two_rotations_at_once(stack, plays, colleague):
    old, others = published(stack), []
    sync(plays, colleague)

    def meanwhile(who: Plays, playbook: str = "rotate-db.yml", **environment: str) -> moments.Act:
        def act(_pid: int) -> None:
            store, env, there = who.store_path.read_bytes(), (stack.directory / ".env").read_bytes(), ids(stack)
            others.append(moments.run(who, playbook, **environment))
            assert (who.store_path.read_bytes(), (stack.directory / ".env").read_bytes()) == (store, env)
            assert ids(stack) == there

        return act

    at = {"create": meanwhile(plays), "roll_out": meanwhile(colleague, **SOMEBODY_ELSE)}
    run = moments.run(plays, at={**at, "drain": meanwhile(plays, "provision.yml")})
    run.rotated()
    same, foreign, provisioned = others
    for other in (same, foreign):
        other.refused("holds the lock (r-", "since 20", "take_lock=r-")
    # It has no take_lock, and needs none.
    provisioned.refused("holds the lock (r-", "wait until that run has ended; if it is dead, its lock ends at 20")
    assert "take_lock" not in provisioned.stdout
    check_end(stack, plays, [old])
    # Its store has not seen the rotation.
    moments.run(colleague, **SOMEBODY_ELSE).refused("your store is serial", "git pull")


def test_a_run_in_another_container_of_the_same_name_is_not_taken_for_dead(stack, plays):
    old, others = published(stack), []

    def in_a_container(_pid: int) -> None:
        store, env, there = plays.store_path.read_bytes(), (stack.directory / ".env").read_bytes(), ids(stack)
        done = plays.run("rotate-db.yml", through=["unshare", "--pid", "--fork", "--mount-proc"])
        others.append(moments.Run(done.returncode, done.stdout))
        assert (plays.store_path.read_bytes(), (stack.directory / ".env").read_bytes(), ids(stack)) == (
            store,
            env,
            there,
        )

    run = moments.run(plays, at={"publish": in_a_container})
    others[0].refused("holds the lock (r-", "take_lock=r-")
    assert "#" not in re.search(r"\S+ process .* holds the lock", others[0].flat)[0]
    run.rotated()
    check_end(stack, plays, [old])


def test_two_that_start_at_the_same_time(stack, plays):
    old = published(stack)
    both = [
        subprocess.Popen(
            plays.command("rotate-db.yml"),
            env=plays.environment,
            cwd=stack.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _each in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(map(bool, codes)) == [False, True], outputs
    assert "holds the lock" in outputs[codes.index(0) - 1], outputs
    check_end(stack, plays, [old])


def test_the_controller_is_gone_and_another_one_goes_on(stack, plays, tmp_path):
    """Nothing local survives but the inventory with its store."""
    old = published(stack)
    died = moments.run(plays, at={"roll_out": lambda pid: os.kill(pid, signal.SIGKILL)})
    assert died.returncode == -signal.SIGKILL
    services_work(stack)
    shutil.copytree(plays.folder, tmp_path / "inventory")
    new = Plays(tmp_path / "inventory", plays.project_dir, **plays.variables)
    (tmp_path / "home").mkdir()
    elsewhere = {**SOMEBODY_ELSE, "ANSIBLE_HOME": str(tmp_path / "home")}

    refused = moments.run(new, **elsewhere)
    refused.refused("holds the lock (r-", "process", "take_lock=r-")
    rotation = re.search(r"take_lock=(r-\w+)", refused.flat)[1]
    run = moments.run(new, "rotate-db.yml", "-e", f"take_lock={rotation}", **elsewhere)
    run.rotated()
    assert f"RESUME {rotation}" in run.flat
    check_end(stack, new, [old])
    sync(new, plays)


def test_the_target_was_restarted_meanwhile(stack, plays, tmp_path):
    """A lease of an earlier boot is dead, whoever held it."""
    old = published(stack)
    moments.run(plays, at={"publish": lambda pid: os.kill(pid, signal.SIGKILL)})
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n")
    script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    through = ["unshare", "--mount", "sh", "-c", script, str(boot)]
    done = plays.run("rotate-db.yml", through=through, **SOMEBODY_ELSE)
    assert done.returncode == 0, done.stdout
    assert "was dead: taken over" in done.stdout
    check_end(stack, plays, [old])
