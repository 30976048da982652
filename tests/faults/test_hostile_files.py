# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in hostile surroundings: a folder where others may write, planted links and FIFOs, an unusual umask.

What unit tests show already (a link, folder or FIFO at a file's own place, a state folder that is not ours) is not
repeated here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.parsing.vault import VaultSecret
from ansible_collections.chat4all.secrets.plugins.module_utils import files, first_start, rollout
from ansible_collections.chat4all.secrets.plugins.module_utils import state as states
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils.store import Store

NOBODY = 65534
SECRET = "a-value-that-nobody-else-may-read"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user, which takes root")

# Plants links and FIFOs where the writer will write, moves away what it has written, and reads whatever it can.
ATTACKER = """
import os, sys
folder, victim, writer, secret = sys.argv[1:]
os.setgid(65534), os.setuid(65534)
os.chdir(folder)
print("ready", flush=True)
names = [".env", f"..env.{writer}.tmp", "..env.99999999.tmp"]
number = 0
while True:
    number += 1
    for name in names:
        for act in (
            lambda: os.rename(name, f"taken-{number}"),
            lambda: os.symlink(victim, name),
            lambda: os.unlink(name),
            lambda: os.mkfifo(name, 0o666),
            lambda: os.unlink(name),
            lambda: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)),
            lambda: os.unlink(name),
        ):
            try:
                act()
            except OSError:
                pass
        for seen in os.listdir("."):
            try:
                descriptor = os.open(seen, os.O_RDONLY | os.O_NONBLOCK)
                if secret.encode() in os.read(descriptor, 1000):
                    print("read", seen, flush=True)
                os.close(descriptor)
            except OSError:
                pass
"""


def open_to_all(folder) -> None:
    """Let another user come into a test's folder; pytest keeps those above it closed."""
    for above in (folder, *folder.parents):
        if above == Path(tempfile.gettempdir()):
            break
        above.chmod(0o755)


@as_root
def test_who_may_write_beside_env_neither_reads_a_value_nor_turns_a_write_elsewhere(tmp_path):
    open_to_all(tmp_path)
    folder, victim = tmp_path / "project", tmp_path / "victim"
    folder.mkdir()
    folder.chmod(0o777)
    victim.write_text("untouched")
    writer = """
import sys
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write, read_plain_file
done = refused = 0
sys.stdin.readline()
while (done < 500 or refused < 5) and done + refused < 200000:
    try:
        atomic_write(sys.argv[1], sys.argv[2].encode(), uid=0)
        done += 1
        read_plain_file(sys.argv[1])
    except SecretsError:
        refused += 1
print(done, refused)
"""
    command = [sys.executable, "-c", writer, str(folder / ".env"), SECRET]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ours:
        command = [sys.executable, "-c", ATTACKER, str(folder), str(victim), str(ours.pid), SECRET]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as theirs:
            assert theirs.stdout.readline() == "ready\n"
            done, refused = map(int, ours.communicate("go\n", timeout=120)[0].split())
            theirs.send_signal(signal.SIGKILL)
            read = theirs.stdout.read()
    # Both got their turns.
    assert done >= 500, refused
    assert refused >= 5, done
    assert victim.read_text() == "untouched"
    assert read == ""
    assert ours.returncode == 0


@as_root
def test_the_attacker_of_these_tests_can_read(tmp_path):
    """The positive control."""
    open_to_all(tmp_path)
    (tmp_path / "clear").write_text(SECRET)
    command = [sys.executable, "-c", ATTACKER, str(tmp_path), str(tmp_path / "victim"), "1", SECRET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as theirs:
        lines = [theirs.stdout.readline() for _each in range(2)]
        theirs.send_signal(signal.SIGKILL)
    assert lines == ["ready\n", "read clear\n"]


def plant(kind: str, path: Path) -> None:
    if kind == "link":
        victim = path.parent / "victim"
        victim.write_text("untouched")
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(path.parent / "nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()


def unharmed(folder: Path) -> None:
    victim = folder / "victim"
    assert not victim.exists() or victim.read_text() == "untouched"
    assert not (folder / "nowhere").exists()


KINDS = ["link", "dangling link", "fifo", "folder"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("process", ["ours", "dead"])
def test_something_at_the_temporary_files_place_is_not_followed(tmp_path, kind, process):
    number = os.getpid() if process == "ours" else 2**22 + 1
    planted = tmp_path / f"..env.{number}.tmp"
    plant(kind, planted)
    if kind == "folder" and process == "ours":
        with pytest.raises(SecretsError, match="cannot be written"):
            files.atomic_write(str(tmp_path / ".env"), SECRET.encode())
        assert not (tmp_path / ".env").exists()
    else:
        files.atomic_write(str(tmp_path / ".env"), SECRET.encode())
        assert (tmp_path / ".env").read_text() == SECRET
    unharmed(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["state.json", "lock", "ledger.jsonl", "rollout.json"])
def test_something_planted_in_the_state_folder_is_refused_by_its_path(tmp_path, kind, name):
    folder = tmp_path / "state"
    folder.mkdir(0o700)
    plant(kind, folder / name)
    row = {"step": "open"}
    with pytest.raises(SecretsError, match=f"{folder}/{name}: is "):
        if name == "rollout.json":
            rollout.Journal(str(folder))
        else:
            states.StateFile(str(folder)).update(lambda state: None, [row])
    unharmed(folder)


def progress(path: Path) -> None:
    """Have a line of progress written as the roll-out does."""
    settings = SimpleNamespace(progress=str(path))
    item = SimpleNamespace(service="user-service", began=0.0)
    rollout.Rollout._progress(SimpleNamespace(settings=settings), item, "replaced")


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_progress_file_neither_hangs_nor_ends_a_roll_out(tmp_path, kind):
    """Nothing depends on it."""
    folder = tmp_path / "state" / "runs" / "r-1"
    states.make_folder(str(folder))
    plant(kind, folder / "roll_out.jsonl")
    progress(folder / "roll_out.jsonl")
    unharmed(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_something_planted_at_the_runs_place_is_refused_by_its_path(tmp_path, kind):
    """Only who may write in the state folder can do it; a folder made there by its owner is fine."""
    runs = tmp_path / "state" / "runs"
    states.make_folder(str(runs))
    plant(kind, runs / "r-1")
    if kind == "folder":
        (runs / "r-1").chmod(0o777)
    with pytest.raises(SecretsError, match=f"{runs}/r-1: "):
        states.make_folder(str(runs / "r-1"))
    unharmed(runs)


def test_a_full_disk_does_not_end_a_roll_out_for_a_line_of_progress():
    progress(Path("/dev/full"))


def test_a_line_of_progress_is_written(tmp_path):
    """The positive control of the two above."""
    progress(tmp_path / "runs" / "roll_out.jsonl")
    assert json.loads((tmp_path / "runs" / "roll_out.jsonl").read_text())["text"] == "replaced"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [".secrets-store.yml", ".secrets-store.yml.lock"])
def test_something_planted_at_the_stores_place_is_refused(tmp_path, kind, name):
    path = tmp_path / name
    plant(kind, path)
    with pytest.raises(SecretsError, match=f"{path}: is "):
        store = Store.open(str(tmp_path / ".secrets-store.yml"), [("default", VaultSecret(b"password"))])
        store.change(lambda credentials: credentials.update(postgres={"current": {"user": "a", "password": "b"}}))
    unharmed(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_something_planted_at_the_overrides_place_is_refused(tmp_path, kind):
    path = tmp_path / "docker-compose.override.yml"
    plant(kind, path)
    with pytest.raises(SecretsError, match=f"{path}: is "):
        first_start.merged(str(path), "postgres", {"environment": {"A": "b"}})
    unharmed(tmp_path)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_hostile_umask_changes_nothing(tmp_path, umask):
    """Neither may others read, nor is the owner locked out."""
    project, inventory = tmp_path / "project", tmp_path / "inventory"
    for folder in (project, inventory):
        folder.mkdir(0o755)
    state_dir = project / ".chat4all"
    kept = os.umask(umask)
    try:
        for number in ("1", "2"):
            with states.kernel_lock(str(state_dir), [{"step": "publish"}]):
                files.atomic_write(str(project / ".env"), SECRET.encode())
            states.make_folder(str(state_dir / "runs" / "r-1"))
            progress(state_dir / "runs" / "r-1" / "roll_out.jsonl")
            store = Store.open(str(inventory / ".secrets-store.yml"), [("default", VaultSecret(b"password"))])
            change = {"postgres": {"role": number}}
            store.change(lambda credentials, change=change: credentials.update(change))
    finally:
        os.umask(kept)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    del modes["project"], modes["inventory"]
    folders = {"project/.chat4all", "project/.chat4all/runs", "project/.chat4all/runs/r-1"}
    assert len(modes) == 10, sorted(modes)
    assert modes == {name: 0o700 if name in folders else 0o600 for name in modes}
