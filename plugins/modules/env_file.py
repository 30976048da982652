#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: env_file
short_description: Keep values in a Docker Compose .env file
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Sets variables in C(.env), quoted so that Docker Compose v2 reads exactly the given values, whatever characters
    they hold.
  - All values are published by one atomic rename, so a reader sees the old file or the new one. The file is readable
    by its owner alone from its first byte, and durable on disk when the module returns.
  - Other lines, comments, the order and the line endings are kept byte for byte. A managed variable that is there
    several times ends up once, in its first place.
  - Nothing is written when anything is refused. Refused are a path that is a link, a directory or another special
    file, a file that belongs to somebody else, a line that Compose could not read either, and a value that no C(.env)
    file can carry.
notes:
  - Secrets reach a module safely only with pipelining on. Without it Ansible writes a module's arguments to a temporary
    file on the host.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.lock
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the names of variables and never a value.
  idempotent:
    support: full
    details:
      - A line that holds the value already is left as it is, however it is quoted.
options:
  path:
    description: The file. Its folder must exist.
    type: path
    required: true
  values:
    description:
      - The variables and their values. Variables that are not named here are left alone.
      - Values are strings, or whole numbers. Write other things as strings, since V(yes) and V(1.10) would not come
        out as they were typed.
    type: dict
    required: true
  uris:
    description:
      - The variables whose values are URIs, of which only the login is set. In O(values) they have it in the form
        V(//user:password@), percent-encoded. What else stands in the URI is kept to the letter.
      - Each is a dict with a C(template), a URI of any login (V(postgresql://user:password@db/app)) for a file that lacks
        the variable, without which such a file is refused, and a C(spelling), a list of user and password as they were
        percent-encoded when they stood there before, so that what comes back is what it was. Both may be left out.
    type: dict
    default: {}
  replaces:
    description:
      - Keyed fingerprints of the values that may be replaced, a list by variable. Where the file holds another value,
        somebody else has set it, and nothing is written. Of a URI it is that of its login.
      - A variable that the file lacks, or that is not named here, may always be written.
    type: dict
    default: {}
  fingerprint_key:
    description: Key (hexadecimal) of the fingerprints.
    type: str
  owner:
    description:
      - Name or number of the user that owns the file, the owner of the folder by default.
      - A file that belongs to somebody else is refused.
    type: str
  group:
    description:
      - Name or number of the file's group.
      - By default the group that the file has. A new file gets that of the folder, or that of the user who is not root.
    type: str
  example:
    description:
      - Whether to keep a C(.env.example) beside the file in step, which is meant to be committed.
      - A variable that is missing there is added with the placeholder V(change_me). Lines that are there are kept.
    type: bool
    default: false
  gitignore:
    description:
      - Whether to add what is missing in the folder's C(.gitignore), so that the file, its usual variants,
        C(.chat4all/), C(docker-compose.override.yml) and the temporary file of a write that was killed are not
        committed, and C(.env.example) is.
      - A line C(!docker-compose.override.yml) says that this file is meant to be committed, and is respected.
    type: bool
    default: false
  preserve:
    description:
      - Whether the file is somebody else's, and only these values may change in it.
      - The file and a line for every variable must be there. Each value keeps the quotes, or the bare form, that its line
        has, since C(docker run --env-file), systemd's C(EnvironmentFile) and a shell disagree on quotes. Mode, owner and
        group stay, too.
      - A value is read, and compared by O(replaces), as it stands there, without variables in it.
    type: bool
    default: false
seealso:
  - module: chat4all.secrets.password
  - module: chat4all.secrets.consumer_command
"""

EXAMPLES = r"""
- name: Publish a new login
  chat4all.secrets.env_file:
    path: /srv/chat4all/.env
    values:
      POSTGRES_USER: chat4all_1
      POSTGRES_PASSWORD: "{{ database_password.value }}"
    example: true
    gitignore: true
  no_log: true

- name: Give a job outside Compose the same password
  chat4all.secrets.env_file:
    path: /etc/backup/db.env
    values:
      DB_PASSWORD: "{{ database_password.value }}"
    preserve: true
  no_log: true
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /srv/chat4all/.env
added:
  description: The names of the variables that were not there before.
  returned: success
  type: list
  elements: str
  sample: [REDIS_PASSWORD]
updated:
  description: The names of the variables that got another value, or were there several times.
  returned: success
  type: list
  elements: str
  sample: [POSTGRES_PASSWORD]
files:
  description: The files that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/srv/chat4all/.gitignore, /srv/chat4all/.env]
"""

import grp
import os
import pwd
import re
import stat
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv, env_lines, uris
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import (
    atomic_write,
    check_plain_file,
    check_writable,
    read_plain_file,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.fingerprints import fingerprint, foreign
from ansible_collections.chat4all.secrets.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.chat4all.secrets.plugins.module_utils.state import LOCK_ARGUMENTS, module_lock

PLACEHOLDER = "change_me"
# Variables whose values are words of every line that people read.
PUBLIC = re.compile(r"(^|_)(USER|USERNAME|DB|DATABASE|HOST|PORT)$")
OVERRIDE = "docker-compose.override.yml"

# Files with variables, our override, the deployment's state folder, and what a write that was killed may leave behind.
IGNORED = (".env", ".env.local", ".env.production", "*.env", "!.env.example", OVERRIDE, ".chat4all/", ".*.tmp")
IGNORED_HEADER = "# Secrets and environment files"


@dataclass(frozen=True)
class File:
    """A file as it is, or what a missing one is taken for."""

    path: str
    exists: bool
    text: str
    mode: int
    uid: int
    gid: int

    def lacks(self, line: str) -> bool:
        return line not in [row.strip() for row in self.text.splitlines()]


@dataclass(frozen=True)
class Write:
    """What a file shall be, and what a diff may show of it."""

    file: File
    text: str
    mode: int
    gid: int
    before: list[str]
    after: list[str]

    @property
    def needed(self) -> bool:
        if not self.file.exists:
            return bool(self.text)
        return (self.text, self.mode, self.gid) != (self.file.text, self.file.mode, self.file.gid)

    def diff(self) -> dict[str, str]:
        before, after = list(self.before), list(self.after)
        if self.file.exists and self.file.mode != self.mode:
            before.append(f"mode {self.file.mode:04o}")
            after.append(f"mode {self.mode:04o}")
        return {
            "before_header": self.file.path,
            "after_header": self.file.path,
            "before": "".join(f"{line}\n" for line in before),
            "after": "".join(f"{line}\n" for line in after),
        }

    def check(self) -> None:
        """Refuse what would refuse the file, as far as that is seen without writing."""
        check_writable(self.file.path, len(self.text.encode("utf-8", "surrogateescape")))

    def do(self) -> None:
        data = self.text.encode("utf-8", "surrogateescape")
        atomic_write(self.file.path, data, mode=self.mode, uid=self.file.uid, gid=self.gid)


def look(path: str, uid: int, gid: int, owner: int | None = None) -> File:
    """Return the file at ``path``; a missing one is to belong to ``uid`` and ``gid``.

    What is no plain file is refused, and with ``owner`` what belongs to anybody else.
    """
    found = check_plain_file(path, owner)
    if found is None:
        return File(path, False, "", 0o644, uid, gid)
    if os.geteuid() not in (0, found.st_uid):
        raise SecretsError(f"{path}: belongs to user id {found.st_uid}; run the module as that user or as root")
    text = (read_plain_file(path) or b"").decode("utf-8", "surrogateescape")
    return File(path, True, text, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def strings(given: dict[str, Any]) -> dict[str, str]:
    """Return the values as text; refuses what YAML may have turned into something else."""
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise SecretsError(f"values: {name} must be a string, and is {type(value).__name__}; put it in quotes")
    return {name: str(value) for name, value in given.items()}


def with_logins(file: File, values: dict[str, str], given: dict[str, Any]) -> dict[str, str]:
    """Return the values with every login in its URI: the file's own, else the template."""
    present = dotenv.values(file.text, names=given, where=file.path)
    filled = {}
    for name, known in given.items():
        text = present.get(name) or known.get("template")
        if not text:
            raise SecretsError(f"{file.path}: holds no {name}; write the whole URI there, with any password")
        filled[name] = uris.fill(text, values[name], f"{file.path}: {name}", known.get("spelling") or ())
    return {**values, **filled}


def variables(file: File, values: dict[str, str], gid: int) -> tuple[Write, list[str], list[str]]:
    """Return the file with the values in it, and the names that are added and updated."""
    text = dotenv.render(file.text, values, file.path)
    present: dict[str, list[str | None]] = {}
    for entry in dotenv.parse(file.text, file.path):
        present.setdefault(entry.key, []).append(entry.value)
    added = [name for name in values if name not in present]
    updated = [name for name, value in values.items() if present.get(name, [value]) != [value]]
    before = [f"{name}=(a value)" for name in updated]
    after = [f"{name}=(another value)" for name in updated] + [f"{name}=(a value)" for name in added]
    return Write(file, text, 0o600, gid, before, after), added, updated


def preserved(path: str, params: dict[str, Any], values: dict[str, str]) -> tuple[Write, list[str]]:
    """Return somebody else's file with the values in it, and the names that are updated."""
    file = look(path, 0, 0)
    if not file.exists:
        raise SecretsError(f"{path}: no such file; it is kept in step, not made")
    key = bytes.fromhex(params["fingerprint_key"] or "")
    lines = env_lines.read(file.text, values, path)
    theirs = sorted(
        {
            line.name
            for line in lines
            if line.name in params["replaces"] and fingerprint(key, line.value) not in params["replaces"][line.name]
        }
    )
    _refuse_foreign(path, theirs)
    updated = sorted({line.name for line in lines if line.value != values[line.name]})
    before, after = ([f"{name}=({what} value)" for name in updated] for what in ("a", "another"))
    text = env_lines.render(file.text, values, path)
    return Write(file, text, file.mode, file.gid, before, after), updated


def _refuse_foreign(path: str, theirs: list[str]) -> None:
    if theirs:
        what = " and ".join(theirs)
        raise SecretsError(f"{path}: somebody else has changed {what}; nothing was written", foreign=theirs)


def example(file: File, names: list[str]) -> Write:
    """Return ``.env.example`` with a placeholder for every name that it lacks."""
    missing = [
        name for name in names if not re.search(rf"^[ \t]*(?:export[ \t]+)?{name}[ \t]*[=:]", file.text, re.MULTILINE)
    ]
    return _appended(file, [f"{name}={PLACEHOLDER}" for name in missing])


def gitignore(file: File, name: str) -> Write:
    """Return ``.gitignore`` with the lines that it lacks; one more where the variables' file has an unusual name."""
    lines = IGNORED if name in IGNORED or name.endswith(".env") else (*IGNORED, name)
    missing = [line for line in lines if file.lacks(line) and (line != OVERRIDE or file.lacks(f"!{line}"))]
    header = [IGNORED_HEADER] if missing and file.lacks(IGNORED_HEADER) else []
    return _appended(file, header + missing)


def _appended(file: File, lines: list[str]) -> Write:
    gap = "\n" if lines and file.text and not file.text.endswith("\n") else ""
    text = file.text + gap + "".join(f"{line}\n" for line in lines)
    return Write(file, text, file.mode, file.gid, [], lines)


def work(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    path = os.path.abspath(params["path"])
    folder, name = os.path.split(path)
    values = strings(params["values"])
    if params["preserve"]:
        with module_lock(params, check_mode):
            write, updated = preserved(path, params, values)
            if write.needed:
                write.check() if check_mode else write.do()
        return _result(path, [], updated, [write] if write.needed else [])
    for name, known in params["uris"].items():
        if not isinstance(known, dict):
            raise SecretsError(f"uris: {name} must be a dict, for example {name}: {{}}")
        if name not in values:
            raise SecretsError(f"uris: {name} has no login in values; add it there")
    try:
        found = os.stat(folder)
    except OSError as error:
        raise SecretsError(f"{folder}: cannot hold {name}: {error.strerror}") from None
    uid = found.st_uid if params["owner"] is None else _number("owner", params["owner"])
    if os.geteuid() not in (0, uid):
        raise SecretsError(f"{path}: is to belong to user id {uid}; run the module as that user or as root")
    # Only root may give a file to any group.
    gid = found.st_gid if os.geteuid() == 0 else os.getegid()

    with module_lock(params, check_mode):
        file = look(path, uid, gid, owner=uid)
        _refuse_foreign(path, foreign(file.text, path, params["fingerprint_key"], params["replaces"]))
        group = file.gid if params["group"] is None else _number("group", params["group"])
        env, added, updated = variables(file, with_logins(file, values, params["uris"]), group)
        writes = []
        # First, so that there is no moment at which the values could be committed.
        if params["gitignore"]:
            writes.append(gitignore(look(os.path.join(folder, ".gitignore"), uid, gid), name))
        if params["example"]:
            writes.append(example(look(os.path.join(folder, ".env.example"), uid, gid), list(values)))
        writes = [write for write in (*writes, env) if write.needed]
        for write in writes:
            write.check() if check_mode else write.do()
    return _result(path, added, updated, writes)


def _result(path: str, added: list[str], updated: list[str], writes: list[Write]) -> dict[str, Any]:
    return {
        "changed": bool(writes),
        "path": path,
        "added": added,
        "updated": updated,
        "files": [write.file.path for write in writes],
        "diff": [write.diff() for write in writes],
    }


def _number(option: str, name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if option == "owner" else grp.getgrnam(name).gr_gid
    except KeyError:
        raise SecretsError(f"{option}: {name} does not exist on this host") from None


def shown(params: dict[str, Any]) -> dict[str, Any]:
    """Return the options without any value."""
    hidden = {
        "values": dict.fromkeys(params["values"], "(a value)"),
        "uris": dict.fromkeys(params.get("uris") or {}, "(a URI)"),
        "fingerprint_key": "(a key)",
    }
    return {**params, **{name: text for name, text in hidden.items() if params.get(name)}}


def secret_values(params: dict[str, Any]) -> list[str]:
    """Return the values of all variables but those whose name says that they hold no secret."""
    given = [str(value) for name, value in params["values"].items() if not PUBLIC.search(name)]
    logins = [str(params["values"].get(name, "")).partition(":")[2].removesuffix("@") for name in params["uris"]]
    typed = [
        known["spelling"][1] for known in params["uris"].values() if isinstance(known, dict) and known.get("spelling")
    ]
    return given + [form for login in logins + typed for form in (login, unquote(login)) if form]


def main() -> None:
    module = QuietModule(
        shown,
        secret_values,
        argument_spec={
            "path": {"type": "path", "required": True},
            "values": {"type": "dict", "required": True},
            "uris": {"type": "dict", "default": {}},
            "replaces": {"type": "dict", "default": {}},
            "fingerprint_key": {"type": "str", "no_log": True},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "example": {"type": "bool", "default": False},
            "gitignore": {"type": "bool", "default": False},
            "preserve": {"type": "bool", "default": False},
            **LOCK_ARGUMENTS,
        },
        mutually_exclusive=[("preserve", name) for name in ("owner", "group")],
        supports_check_mode=True,
    )
    try:
        result = work(module.params, module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=error.message, **error.details)
    if not module._diff:
        del result["diff"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
