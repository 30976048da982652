# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.fingerprints import fingerprint
from ansible_collections.chat4all.secrets.plugins.modules import env_file

VALUES = {"POSTGRES_USER": "chat4all_1", "POSTGRES_PASSWORD": "n3w-$ecret 'value'"}
DEFAULTS = {
    "uris": {},
    "replaces": {},
    "fingerprint_key": None,
    "owner": None,
    "group": None,
    "example": False,
    "gitignore": False,
    "preserve": False,
    "state_dir": None,
    "holder": None,
    "ledger": [],
}

KEY = bytes(range(32))
KNOWN = {"PASSWORD": [fingerprint(KEY, "new"), fingerprint(KEY, "ours")]}


def run(folder: Path, check_mode: bool = False, name: str = ".env", **options: object) -> dict:
    return env_file.work({**DEFAULTS, "path": str(folder / name), "values": VALUES, **options}, check_mode)


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mode & 0o7777) for path in folder.iterdir() if path.is_file()}


def test_a_new_file_belongs_to_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        result = run(tmp_path)
    finally:
        os.umask(before)
    assert content(tmp_path) == {
        ".env": (b"POSTGRES_USER=chat4all_1\nPOSTGRES_PASSWORD=\"n3w-\\$ecret 'value'\"\n", 0o600)
    }
    assert result["changed"] and result["added"] == ["POSTGRES_USER", "POSTGRES_PASSWORD"] and result["updated"] == []


def test_the_second_run_changes_nothing(tmp_path: Path) -> None:
    options = {"example": True, "gitignore": True, "state_dir": str(tmp_path / ".chat4all")}
    files = run(tmp_path, **options)["files"]
    assert files == [str(tmp_path / name) for name in (".gitignore", ".env.example", ".env")]
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    result = run(tmp_path, **options)
    assert not result["changed"] and not result["added"] and not result["updated"] and not result["diff"]
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == before


def test_a_file_that_others_may_read_is_tightened_and_reported(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / ".env").chmod(0o644)
    result = run(tmp_path)
    assert result["changed"] and not result["added"] and not result["updated"]
    assert result["diff"][0]["before"] == "mode 0644\n" and result["diff"][0]["after"] == "mode 0600\n"
    assert (tmp_path / ".env").stat().st_mode & 0o7777 == 0o600


def test_check_mode_predicts_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=old\n")
    options = {"example": True, "gitignore": True, "state_dir": str(tmp_path / ".chat4all")}
    before = content(tmp_path)
    predicted = run(tmp_path, check_mode=True, **options)
    assert content(tmp_path) == before and not (tmp_path / ".chat4all").exists()
    assert predicted == run(tmp_path, **options)
    assert predicted["added"] == ["POSTGRES_USER"] and predicted["updated"] == ["POSTGRES_PASSWORD"]


def test_the_diff_names_keys_and_shows_no_value(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=0ld-secret\nOTHER=foreign-secret\n")
    (tmp_path / ".env.example").write_text("OTHER=foreign-secret\n")
    diff = run(tmp_path, example=True)["diff"]
    shown = json.dumps(diff)
    assert "POSTGRES_PASSWORD=(another value)" in shown and "POSTGRES_USER=(a value)" in shown
    for value in (*VALUES.values(), "ecret"):
        assert value not in shown


def test_a_key_that_is_there_twice_ends_up_once_and_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_USER=x\n# the real one\nPOSTGRES_USER=chat4all_1\n")
    result = run(tmp_path, values={"POSTGRES_USER": "chat4all_1"})
    assert (tmp_path / ".env").read_text() == "POSTGRES_USER=chat4all_1\n# the real one\n"
    assert result["updated"] == ["POSTGRES_USER"]


def test_no_values_make_no_file(tmp_path: Path) -> None:
    assert not run(tmp_path, values={})["changed"]
    assert not list(tmp_path.iterdir())


def test_the_example_gets_placeholders_for_missing_names_and_keeps_its_lines(tmp_path: Path) -> None:
    example = tmp_path / ".env.example"
    example.write_text('# copy me\nPOSTGRES_USER=chat4all\n#POSTGRES_PASSWORD=\nTOKEN=<put "it" here')
    example.chmod(0o664)
    run(tmp_path, example=True)
    assert example.read_text() == (
        '# copy me\nPOSTGRES_USER=chat4all\n#POSTGRES_PASSWORD=\nTOKEN=<put "it" here\nPOSTGRES_PASSWORD=change_me\n'
    )
    assert example.stat().st_mode & 0o7777 == 0o664


def test_gitignore_gets_the_lines_of_the_strategy_document(tmp_path: Path) -> None:
    run(tmp_path, gitignore=True)
    assert (tmp_path / ".gitignore").read_text() == (
        "# Secrets and environment files\n.env\n.env.local\n.env.production\n*.env\n!.env.example\n"
        "docker-compose.override.yml\n.chat4all/\n.*.tmp\n"
    )
    assert (tmp_path / ".gitignore").stat().st_mode & 0o7777 == 0o644


def test_gitignore_keeps_its_lines_and_what_shall_be_committed(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("build/\n.env  \n!docker-compose.override.yml")
    run(tmp_path, gitignore=True, name="variables")
    assert (tmp_path / ".gitignore").read_text() == (
        "build/\n.env  \n!docker-compose.override.yml\n"
        "# Secrets and environment files\n.env.local\n.env.production\n*.env\n!.env.example\n.chat4all/\n.*.tmp\n"
        "variables\n"
    )


def link(path: Path) -> None:
    target = path.parent / "elsewhere"
    target.write_text("A=1\n")
    path.symlink_to(target)


def foreign(path: Path) -> None:
    path.write_text("A=1\n")
    try:
        os.chown(path, 12345, -1)
    except PermissionError:
        pytest.skip("needs root")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (link, r"/\.env: is a link"),
        (lambda path: path.symlink_to("nowhere"), r"/\.env: is a link"),
        (Path.mkdir, r"/\.env: is a folder"),
        (os.mkfifo, r"/\.env: is not a plain file"),
        (foreign, r"/\.env: belongs to user id 12345, not \d+"),
        (lambda path: path.write_text("A=1\nhunter2 'secret\n"), r"/\.env line 2: not KEY=value"),
        (lambda path: (path.parent / ".env.example").symlink_to("nowhere"), r"/\.env\.example: is a link"),
        (lambda path: (path.parent / ".gitignore").mkdir(), r"/\.gitignore: is a folder"),
    ],
    ids=["link", "dangling link", "directory", "fifo", "somebody else's", "unreadable line", "example", "gitignore"],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_what_is_refused_leaves_everything_as_it_was(tmp_path: Path, make, message: str, check_mode: bool) -> None:
    make(tmp_path / ".env")
    before = content(tmp_path), sorted(os.listdir(tmp_path))
    with pytest.raises(SecretsError, match=message) as caught:
        run(tmp_path, check_mode, example=True, gitignore=True)
    assert (content(tmp_path), sorted(os.listdir(tmp_path))) == before
    assert "\n" not in caught.value.message and "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": {"A": True}}, "values: A must be a string, and is bool"),
        ({"values": {"A": None}}, "values: A must be a string, and is NoneType"),
        ({"values": {"A": "x\0"}}, "A: holds a NUL"),
        ({"values": {"A-B": "x"}}, "values: 'A-B' is no variable name"),
        ({"owner": "nobody-of-that-name"}, "owner: nobody-of-that-name does not exist on this host"),
        ({"group": "nobody-of-that-name"}, "group: nobody-of-that-name does not exist on this host"),
        ({"name": "missing/.env"}, "/missing: cannot hold .env: No such file or directory"),
    ],
)
def test_a_wrong_option_is_one_clear_line(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(SecretsError) as caught:
        run(tmp_path, **options)
    assert message in caught.value.message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["PASSWORD=ours", "PASSWORD='new'", "OTHER=1"])
def test_a_value_that_is_known_is_replaced(tmp_path: Path, there: str) -> None:
    (tmp_path / ".env").write_text(f"{there}\n")
    run(tmp_path, values={"PASSWORD": "new"}, replaces=KNOWN, fingerprint_key=KEY.hex())
    assert "new" in (tmp_path / ".env").read_text()


@pytest.mark.parametrize("there", ["PASSWORD=theirs", "PASSWORD=ours\nPASSWORD=theirs", "PASSWORD=$OTHER", "PASSWORD"])
def test_a_value_that_somebody_else_has_set_is_not_replaced(tmp_path: Path, there: str) -> None:
    (tmp_path / ".env").write_text(f"{there}\n")
    with pytest.raises(SecretsError, match="somebody else has changed PASSWORD; nothing was written"):
        run(tmp_path, values={"PASSWORD": "new"}, replaces=KNOWN, fingerprint_key=KEY.hex())
    assert (tmp_path / ".env").read_text() == f"{there}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_owner_of_the_folder_owns_the_files(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    run(tmp_path, example=True, gitignore=True)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()} == {(12345, 23456)}
    run(tmp_path, group="34567")
    assert (tmp_path / ".env").stat().st_gid == 34567


def test_whole_numbers_are_written_as_typed(tmp_path: Path) -> None:
    run(tmp_path, values={"PORT": 5432})
    assert (tmp_path / ".env").read_text() == "PORT=5432\n"


def module_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **arguments: object) -> dict:
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_diff": True}})
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", given.encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit):
        env_file.main()
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("refused", [False, True])
def test_the_result_holds_no_value_and_its_path_is_readable(tmp_path: Path, monkeypatch, capsys, refused: bool) -> None:
    path = tmp_path / "chat4all_1" / ".env"
    path.parent.mkdir()
    if refused:
        path.mkdir()
    logged: list[object] = []
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda self, *arguments, **more: logged.append((arguments, more)))
    known = {"replaces": KNOWN, "fingerprint_key": KEY.hex()}
    result = module_output(monkeypatch, capsys, path=str(path), values=VALUES, **known)
    assert result.get("failed", False) == refused
    assert str(path) in result["msg" if refused else "path"]
    assert "n3w-" not in json.dumps(result) + repr(logged)
    assert KEY.hex() not in json.dumps(result) + repr(logged)
    assert '"chat4all_1"' not in json.dumps(result)
    assert logged


LOGIN = "//app_1:n3w~pass.word@"
URI = {"values": {"DATABASE_URL": LOGIN}, "uris": {"DATABASE_URL": {"template": "postgresql://user:password@db/app"}}}


def known(*logins: str) -> dict[str, object]:
    return {"replaces": {"DATABASE_URL": [fingerprint(KEY, login) for login in logins]}, "fingerprint_key": KEY.hex()}


def test_of_a_uri_the_login_alone_is_set(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text('A=1\nDATABASE_URL="postgresql://app:o%2fld@by-hand:5432/app?x=%20y" # ours\n')
    result = run(tmp_path, **URI, **known("//app:o%2Fld@"))
    assert env.read_text() == "A=1\nDATABASE_URL='postgresql://app_1:n3w~pass.word@by-hand:5432/app?x=%20y' # ours\n"
    assert result["updated"] == ["DATABASE_URL"]
    assert not run(tmp_path, **URI)["changed"]


def test_a_uri_that_has_the_login_already_keeps_its_spelling(tmp_path: Path) -> None:
    text = "DATABASE_URL=postgresql://app_1:n3w%7epass%2eword@db/app\n"
    (tmp_path / ".env").write_text(text)
    (tmp_path / ".env").chmod(0o600)
    assert not run(tmp_path, **URI)["changed"] and (tmp_path / ".env").read_text() == text


@pytest.mark.parametrize("text", ["postgresql://app:by-hand@db/app", "postgresql://nobody", "", "x"])
def test_a_login_that_somebody_else_has_set_in_a_uri_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={text}\n")
    with pytest.raises(SecretsError, match="somebody else has changed DATABASE_URL"):
        run(tmp_path, **URI, **known("//app:old@"))


def test_a_uri_that_the_file_lacks_is_made_from_the_template(tmp_path: Path) -> None:
    run(tmp_path, **URI, **known("//app:old@"))
    assert (tmp_path / ".env").read_text() == "DATABASE_URL='postgresql://app_1:n3w~pass.word@db/app'\n"
    with pytest.raises(SecretsError, match="holds no DATABASE_URL; write the whole URI"):
        run(tmp_path, name="other.env", values=URI["values"], uris={"DATABASE_URL": {}})
    with pytest.raises(SecretsError, match="uris: X has no login in values"):
        run(tmp_path, values={}, uris={"X": {}})
    with pytest.raises(SecretsError, match="uris: X must be a dict"):
        run(tmp_path, values={"X": "a"}, uris={"X": ""})


def test_a_login_that_comes_back_is_spelled_as_it_was(tmp_path: Path) -> None:
    text = "DATABASE_URL='postgresql://app:o%2fl+d@db/app'\n"
    (tmp_path / ".env").write_text(text)
    spelling = {"spelling": ["app", "o%2fl+d"]}
    run(tmp_path, **{**URI, "uris": {"DATABASE_URL": spelling}})
    assert "n3w" in (tmp_path / ".env").read_text()
    run(tmp_path, values={"DATABASE_URL": "//app:o%2Fl%2Bd@"}, uris={"DATABASE_URL": spelling})
    assert (tmp_path / ".env").read_text() == text


def test_the_password_of_a_uri_is_a_secret_and_the_rest_is_shown_to_nobody() -> None:
    uri = {"template": "postgresql://user:password@db/app", "spelling": ["x", "%61%2fb-old"]}
    params = {"values": {"DATABASE_URL": "//app_1:a%2Fb@"}, "uris": {"DATABASE_URL": uri}}
    assert set(env_file.secret_values(params)) == {"//app_1:a%2Fb@", "a%2Fb", "a/b", "%61%2fb-old", "a/b-old"}
    assert env_file.shown({**params, "fingerprint_key": None})["uris"] == {"DATABASE_URL": "(a URI)"}
