# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess

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


@pytest.mark.parametrize(("kind", "words"), [("link", "is a link"), ("folder", "is a folder"), ("fifo", "is not a plain file")])
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
