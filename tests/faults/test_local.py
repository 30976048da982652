# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disk is full or read-only, the database goes down: at the worst moment, and what the same command does next."""

from __future__ import annotations

import os
import subprocess
import time
from types import SimpleNamespace

import moments
import pytest
from disk import Disk
from outcome import check_end, published, services_work, stored
from stack import Stack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems, which takes root")


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    """The project and the inventory, each on a small file system of its own."""
    folder = tmp_path_factory.mktemp("disks")
    with Disk(folder / "project") as project, Disk(folder / "inventory") as inventory:
        yield SimpleNamespace(project=project, inventory=inventory)


@pytest.fixture(scope="module")
def stack(disks):
    with Stack("faults-local", directory=disks.project.path / "stack") as running:
        yield running


@pytest.fixture(scope="module")
def plays(stack, disks):
    return moments.provisioned(disks.inventory.path / "production", stack)


@pytest.fixture(autouse=True)
def healed(stack, disks):
    """A fault ends with its test."""
    yield
    disks.project.heal()
    disks.inventory.heal()
    stack.docker("start", *stack.containers("postgres", running=False))


def test_a_full_disk_when_env_is_written(stack, plays, disks):
    old = published(stack)
    run = moments.run(plays, at={"publish": lambda _pid: disks.project.fill()})
    # Not even that it goes back could be written down, so that it does not.
    run.stopped("No space left on device", "goes on with the same new password")
    assert f"{stack.directory}/.env: cannot be written: No space left on device" in run.flat
    assert published(stack) == old
    services_work(stack)

    disks.project.heal()
    moments.run(plays).rotated()
    check_end(stack, plays, [old])


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_store_that_cannot_be_written_when_a_value_is_made(stack, plays, disks, fault):
    old, before = published(stack), plays.store_path.read_bytes()
    if fault == "full":
        run = moments.run(plays, at={"create": lambda _pid: disks.inventory.fill()})
        run.stopped("at create", f"{plays.store_path}: cannot be written: No space left on device")
    else:
        disks.inventory.make_read_only()
        run = moments.run(plays)
        run.stopped("at create", "Read-only file system")
    disks.inventory.heal()
    # The server has never heard of a value that is not stored.
    assert "set" not in run.steps
    assert plays.store_path.read_bytes() == before
    check_end(stack, plays)
    assert published(stack) == old


def test_a_store_that_cannot_be_written_at_the_end(stack, plays, disks):
    old = published(stack)
    run = moments.run(plays, at={"finish": lambda _pid: disks.inventory.fill()})
    run.stopped("at finish", "No space left on device")
    new = stored(plays, "pending")
    assert published(stack) == new
    services_work(stack)
    disks.inventory.heal()

    run = moments.run(plays, at={"revoke": lambda _pid: disks.inventory.fill()})
    run.stopped("at revoke", "No space left on device")
    services_work(stack)
    disks.inventory.heal()

    run = moments.run(plays)
    assert run.returncode == 0, run.stdout
    # The value that was already everywhere, not yet another one.
    check_end(stack, plays, [old])
    assert stored(plays) == new


def wait_for_database(stack: Stack) -> None:
    [server] = stack.containers("postgres")
    deadline = time.monotonic() + 60
    while stack.docker("inspect", "--format", "{{.State.Health.Status}}", server).strip() != "healthy":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    stack.wait()


def test_the_database_is_restarted_between_set_and_test(stack, plays):
    old = published(stack)

    def restart(_pid: int) -> None:
        stack.docker("restart", stack.containers("postgres")[0])
        wait_for_database(stack)

    run = moments.run(plays, at={"test": restart})
    run.rotated()
    check_end(stack, plays, [old])


def test_the_database_goes_down_between_set_and_test(stack, plays):
    old, failed = published(stack), []
    [server] = stack.containers("postgres")

    def stop(_pid: int) -> None:
        failed.append(stored(plays, "pending"))
        stack.docker("stop", server)

    run = moments.run(plays, at={"test": stop})
    run.stopped("chat4all")
    assert published(stack) == old
    stack.docker("start", server)
    wait_for_database(stack)

    # It had begun to go back, which the first of these ends.
    run = moments.run(plays)
    if run.returncode:
        run.stopped("working")
        run = moments.run(plays)
    run.rotated()
    check_end(stack, plays, [old, *failed])


@pytest.mark.parametrize("umask", ["000", "777"])
def test_a_whole_rotation_under_a_hostile_umask_in_a_folder_that_all_may_write(stack, plays, umask):
    old, folder = published(stack), stack.directory
    mode = folder.stat().st_mode
    folder.chmod(0o777)
    try:
        done = plays.run("rotate-db.yml", through=["sh", "-c", f'umask {umask}; exec "$@"', "sh"])
    finally:
        folder.chmod(mode)
    assert done.returncode == 0, done.stdout
    check_end(stack, plays, [old])
    state = folder / ".chat4all"
    files = [folder / ".env", plays.store_path, *(path for path in state.rglob("*") if path.is_file())]
    modes = {str(path): oct(path.stat().st_mode & 0o777) for path in [*files, state]}
    assert modes == {str(path): "0o700" if path == state else "0o600" for path in [*files, state]}


def test_the_checks_of_this_folder_can_fail(stack, plays):
    """The positive control: each of these is seen by the check of the end state."""
    [container] = stack.containers("user-service")
    stray = stack.docker("create", *labels_of(stack, container), "chat4all-test/consumer:1").strip()
    with pytest.raises(AssertionError, match="stray"):
        check_end(stack, plays)
    stack.docker("rm", stray)
    with pytest.raises(AssertionError, match="shall be dead"):
        check_end(stack, plays, [published(stack)])
    stack.psql("CREATE ROLE chat4all_9 LOGIN PASSWORD 'x'")
    with pytest.raises(AssertionError, match="these logins are valid"):
        check_end(stack, plays)
    stack.psql("DROP ROLE chat4all_9")
    lock = stack.directory / ".chat4all" / "lock"
    with subprocess.Popen(["flock", str(lock), "sh", "-c", "echo held; cat"], stdin=-1, stdout=-1) as holder:
        holder.stdout.readline()
        with pytest.raises(BlockingIOError):
            check_end(stack, plays)
        holder.stdin.close()
    check_end(stack, plays)


def labels_of(stack: Stack, container: str) -> list[str]:
    form = '{{range $key, $value := .Config.Labels}}{{printf "--label=%s=%s\\n" $key $value}}{{end}}'
    return stack.docker("inspect", "--format", form, container).split()
