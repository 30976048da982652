# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import env_lines
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.fingerprints import fingerprint
from ansible_collections.chat4all.secrets.plugins.modules import env_file

NEW = {"DB_USER": "app_2", "DB_PASSWORD": "~n3w.Value-x"}
KEY = bytes(32)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("DB_USER=app\nDB_PASSWORD=old\n", "DB_USER=app_2\nDB_PASSWORD=~n3w.Value-x\n"),
        ("DB_USER=app\nDB_PASSWORD=old", "DB_USER=app_2\nDB_PASSWORD=~n3w.Value-x"),
        ('DB_USER=\'app\'\nDB_PASSWORD="o\\"l$d"\n', "DB_USER='app_2'\nDB_PASSWORD=\"~n3w.Value-x\"\n"),
        (
            "# DB_PASSWORD=old\r\n\r\nexport DB_USER = app \r\nX=$DB_USER\r\nDB_PASSWORD=old # its password\r\n",
            "# DB_PASSWORD=old\r\n\r\nexport DB_USER = app_2 \r\nX=$DB_USER\r\nDB_PASSWORD=~n3w.Value-x # its password\r\n",
        ),
        (
            "DB_PASSWORD=a\nDB_USER=b\nDB_PASSWORD=c\n",
            "DB_PASSWORD=~n3w.Value-x\nDB_USER=app_2\nDB_PASSWORD=~n3w.Value-x\n",
        ),
        ("DB_USER=\nDB_PASSWORD=''\nMY_DB_USER=x\n", "DB_USER=app_2\nDB_PASSWORD='~n3w.Value-x'\nMY_DB_USER=x\n"),
        ("DB_USER=app\nDB_PASSWORD=a#b$c\\d\n", "DB_USER=app_2\nDB_PASSWORD=~n3w.Value-x\n"),
        ("not a line\nDB_USER=app\nDB_PASSWORD=x\n'\n", "not a line\nDB_USER=app_2\nDB_PASSWORD=~n3w.Value-x\n'\n"),
    ],
)
def test_only_the_values_change_and_keep_their_quotes(before, after):
    assert env_lines.render(before, NEW, "x.env") == after
    assert env_lines.render(after, NEW, "x.env") == after


@pytest.mark.parametrize("old", ["p$ss\\w", "a=b", "it's", 'say "x"', "a  b", "x#y"])
def test_a_value_that_came_from_the_file_goes_back_to_the_letter(old):
    before = f"DB_USER=app\nDB_PASSWORD={old}\n"
    assert {line.name: line.value for line in env_lines.parse(before, NEW)} == {"DB_USER": "app", "DB_PASSWORD": old}
    there = env_lines.render(before, NEW, "x.env")
    assert env_lines.render(there, {"DB_USER": "app", "DB_PASSWORD": old}, "x.env") == before


@pytest.mark.parametrize("value", ["plain", '$x `id` "q" \\ back', "it is; #not a comment", "~home"])
def test_a_shell_that_sources_a_quoted_line_reads_the_value(value, tmp_path):
    path = tmp_path / "x.env"
    path.write_text(env_lines.render('P="old"\n', {"P": value}, "x.env"))
    script = f'. {shlex.quote(str(path))}; printf %s "$P"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == value


@pytest.mark.parametrize(
    ("text", "value", "said"),
    [
        ("P=old\n", "two\nlines", "x.env: the new P cannot be written in the quotes that its line has"),
        ("P=old\n", " x", "x.env: the new P cannot be written"),
        ("P=old\n", "'x'", "x.env: the new P cannot be written"),
        ("P=old\n", "a #b", "x.env: the new P cannot be written"),
        ("P='old'\n", "it's", "x.env: the new P cannot be written"),
        ("Q=old\n", "x", "x.env: has no P; add the line, or name another variable"),
    ],
)
def test_what_cannot_be_written_as_its_line_is_refused(text, value, said):
    with pytest.raises(SecretsError) as error:
        env_lines.render(text, {"P": value}, "x.env")
    assert error.value.message.startswith(said) and value not in error.value.message.replace("x.env", "")


# -- the module's option preserve


def preserve(path, check_mode=False, **given):
    defaults = {"example": False, "gitignore": False, "owner": None, "group": None, "ledger": []}
    defaults.update(replaces={}, fingerprint_key=KEY.hex(), state_dir=None, holder=None, preserve=True)
    return env_file.work({**defaults, "path": str(path), "values": NEW, **given}, check_mode)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "db.env"
    path.write_text("# the backup's\nDB_USER=app\nDB_PASSWORD=old\n")
    path.chmod(0o640)
    return path


def known(*passwords):
    return {"DB_PASSWORD": [fingerprint(KEY, one) for one in passwords]}


def test_mode_and_owner_stay_and_nothing_else_is_made(path):
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    result = preserve(path, example=True, gitignore=True, replaces=known("new", "old"))
    assert result["changed"] and result["updated"] == ["DB_PASSWORD", "DB_USER"] and result["added"] == []
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [one.name for one in path.parent.iterdir()] == ["db.env"]
    assert path.read_text() == "# the backup's\nDB_USER=app_2\nDB_PASSWORD=~n3w.Value-x\n"
    assert not preserve(path)["changed"]


def test_check_mode_says_what_it_would_do_and_refuses_the_same(path):
    before = path.read_bytes()
    assert preserve(path, check_mode=True)["changed"]
    for given in ({"replaces": known("other")}, {"values": {"DB_PASS": "x"}}):
        with pytest.raises(SecretsError):
            preserve(path, check_mode=True, **given)
    assert path.read_bytes() == before


def test_a_value_that_somebody_else_has_set_is_named_and_stays(path):
    before = path.read_bytes()
    with pytest.raises(SecretsError, match="db.env: somebody else has changed DB_PASSWORD") as error:
        preserve(path, replaces=known("new", "older"))
    assert error.value.details == {"foreign": ["DB_PASSWORD"]}
    assert path.read_bytes() == before


def test_a_link_is_not_followed_and_a_missing_file_is_not_made(path):
    link = path.with_name("link.env")
    link.symlink_to(path)
    with pytest.raises(SecretsError, match="is a link, which is not followed"):
        preserve(link)
    with pytest.raises(SecretsError, match="none.env: no such file; it is kept in step, not made"):
        preserve(path.with_name("none.env"))
