# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
import time

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import files
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError


def test_the_mode_holds_from_the_first_byte(tmp_path, monkeypatch):
    path, seen = tmp_path / "file", []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (seen.append(os.stat(old).st_mode & 0o777), real(old, new)))
    kept = os.umask(0)
    try:
        files.atomic_write(str(path), b"secret")
    finally:
        os.umask(kept)
    assert seen == [0o600] and path.read_bytes() == b"secret"


@pytest.mark.parametrize(
    ("kind", "words"), [("link", "is a link"), ("folder", "is a folder"), ("fifo", "is not a plain file")]
)
def test_what_is_no_plain_file_is_refused(tmp_path, kind, words):
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_text("old")
    if kind == "link":
        path.symlink_to(other)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    for act in (lambda: files.atomic_write(str(path), b"new"), lambda: files.read_plain_file(str(path))):
        with pytest.raises(SecretsError, match=words):
            act()
    assert other.read_text() == "old"


def test_somebody_elses_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(SecretsError, match="belongs to user id"):
        files.atomic_write(str(path), b"new", uid=os.stat(path).st_uid + 1)
    assert path.read_text() == "old"


def test_a_failure_leaves_the_old_content_and_nothing_beside(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SecretsError, match="No space left on device; the old content is untouched"):
        files.atomic_write(str(path), b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and path.read_text() == "old"


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f".file.{gone.pid}.tmp").write_text("half a secret")
    (tmp_path / ".file.1.tmp").write_text("of a process that is alive")
    (tmp_path / ".another.tmp").write_text("foreign")
    files.atomic_write(str(tmp_path / "file"), b"new")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".another.tmp", ".file.1.tmp", "file"]


def test_a_file_that_belongs_to_somebody_else_is_refused_without_being_told_whose_it_is_to_be(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(SecretsError, match=f"belongs to user id {me}, not {me + 1}"):
        files.atomic_write(str(path), b"new")
    assert path.read_text() == "old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_root_leaves_a_file_to_its_owner(tmp_path):
    path = tmp_path / "file"
    os.chown(tmp_path, 1234, 2345)
    files.atomic_write(str(path), b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)
    os.chown(path, 1234, 99)
    files.atomic_write(str(path), b"newer")
    assert (path.stat().st_uid, path.stat().st_gid, path.read_bytes()) == (1234, 99, b"newer")
    os.chown(path, 4321, 99)
    with pytest.raises(SecretsError, match="belongs to user id 4321, not 1234"):
        files.atomic_write(str(path), b"newest")


def test_a_folder_that_is_missing_is_one_line(tmp_path):
    for act in (lambda path: files.atomic_write(path, b""), lambda path: files.file_lock(path, "me").__enter__()):
        with pytest.raises(SecretsError, match="No such file or directory"):
            act(str(tmp_path / "missing" / "file"))


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_lock_file_that_is_no_plain_file_is_refused(tmp_path, kind):
    path = tmp_path / "lock"
    path.symlink_to(tmp_path / "other") if kind == "link" else os.mkfifo(path)
    with pytest.raises(SecretsError, match=str(path)), files.file_lock(str(path), "me"):
        pytest.fail("worked")
    assert not (tmp_path / "other").exists()


def test_a_file_system_that_cannot_lock_is_said_to_be_so(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with (
        pytest.raises(SecretsError, match="cannot be locked: No locks available"),
        files.file_lock(str(tmp_path / "lock"), "me"),
    ):
        pytest.fail("worked")


def test_content_is_durable_before_its_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    kind = {True: "folder", False: "content"}
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(kind[stat.S_ISDIR(os.fstat(fd).st_mode)]), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("name"), replace(*names)))
    files.atomic_write(str(tmp_path / "file"), b"new")
    assert done == ["content", "name", "folder"]


def test_readers_see_the_old_content_or_the_new_one_also_when_the_writer_is_killed(tmp_path):
    path, size = tmp_path / "file", 1 << 20
    path.write_bytes(b"0" * size)
    code = (
        "import sys\nfrom ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write\n"
        "print('ready', flush=True)\n"
        "while True:\n    for digit in (b'1', b'2'):\n        atomic_write(sys.argv[1], digit * int(sys.argv[2]))\n"
    )

    def is_whole():
        found = path.read_bytes()
        return len(found) == size and found[:1] * size == found

    chance = random.Random(7)
    for _turn in range(10):
        child = subprocess.Popen([sys.executable, "-c", code, str(path), str(size)], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        end = time.monotonic() + chance.uniform(0, 0.1)
        try:
            while time.monotonic() < end:
                assert is_whole()
        finally:
            child.kill()
            child.wait()
        assert is_whole()
    files.atomic_write(str(path), b"end")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_would_refuse_a_file_is_seen_without_writing(tmp_path, monkeypatch):
    path = tmp_path / "a file"
    path.write_text("old")
    files.check_writable(str(path), 100)
    with pytest.raises(SecretsError, match="no space is left"):
        files.check_writable(str(path), 1 << 60)
    monkeypatch.setattr(files, "_mount_points", lambda: {str(path)})
    with pytest.raises(SecretsError, match="a file: cannot be written: it is a mount of its own"):
        files.check_writable(str(path), 100)
    monkeypatch.setattr(os, "access", lambda *_given: False)
    with pytest.raises(SecretsError, match=f"{tmp_path} cannot be written to; the old"):
        files.check_writable(str(path), 100)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_mount_points_are_read_as_the_kernel_writes_them():
    assert {"/", "/proc"} <= files._mount_points()
