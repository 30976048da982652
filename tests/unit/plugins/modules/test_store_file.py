# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.state import kernel_lock
from ansible_collections.chat4all.secrets.plugins.modules import store_file

OLD, NEW = ("$ANSIBLE_VAULT;1.1;AES256\n" + digit * 80 + "\n" for digit in "12")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.yml"


@pytest.fixture
def put(path):
    def put(content, expected=None, check_mode=False):
        sha256 = None if expected is None else hashlib.sha256(expected.encode()).hexdigest()
        params = {"path": str(path), "content": content, "expected_sha256": sha256}
        return store_file.replace({**params, "state_dir": str(path.parent / "state")}, check_mode)

    return put


def test_what_was_written_is_read_again(path, put):
    assert store_file.read(str(path)) is None
    assert put(OLD)
    assert store_file.read(str(path)) == OLD.encode() and path.stat().st_mode & 0o777 == 0o600
    assert put(NEW, expected=OLD)
    assert store_file.read(str(path)) == NEW.encode()


def test_what_is_there_already_is_no_change(path, put):
    put(OLD)
    before = path.stat().st_ino
    assert not put(OLD) and not put(OLD, expected=NEW)
    assert path.stat().st_ino == before


@pytest.mark.parametrize("expected", [None, NEW])
def test_what_somebody_else_wrote_is_not_lost(path, put, expected):
    put(OLD)
    with pytest.raises(SecretsError, match="somebody else has changed it"):
        put(NEW + "33", expected=expected)
    assert path.read_text() == OLD


def test_a_store_that_was_removed_meanwhile_is_not_made_anew(path, put):
    with pytest.raises(SecretsError, match="somebody else has changed it"):
        put(NEW, expected=OLD)
    assert not path.exists()


def test_content_in_clear_is_not_written(path, put):
    with pytest.raises(SecretsError, match="nothing was written"):
        put("password: canary")
    assert not path.exists()


@pytest.mark.parametrize("content", ["password: canary", ""])
def test_a_file_in_clear_is_neither_read_nor_replaced(path, put, content):
    path.write_text(content)
    for act in (lambda: store_file.read(str(path)), lambda: put(OLD, expected=content)):
        with pytest.raises(SecretsError, match="is not encrypted; ansible-vault encrypt") as caught:
            act()
        assert "canary" not in str(caught.value)
    assert path.read_text() == content


def test_a_link_is_refused(path, put, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")
    for act in (lambda: store_file.read(str(path)), lambda: put(OLD)):
        with pytest.raises(SecretsError, match="is a link"):
            act()
    assert not (tmp_path / "elsewhere").exists()


def test_check_mode_predicts_and_writes_nothing(path, put):
    assert put(OLD, check_mode=True)
    assert not os.listdir(path.parent)


def test_nobody_writes_while_another_module_works(path, put, monkeypatch):
    monkeypatch.setattr(store_file, "kernel_lock", lambda folder: kernel_lock(folder, wait=0))
    with kernel_lock(str(path.parent / "state")), pytest.raises(SecretsError, match="is working there"):
        put(OLD)
    assert not path.exists()
