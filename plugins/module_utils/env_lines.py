# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Change values in somebody else's env file, and nothing besides.

Such a file has readers of its own (``docker run --env-file``, systemd's ``EnvironmentFile``, a shell), which disagree on
quotes. So a value keeps the quotes that it has: what reads the line today reads the new one, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

LINE = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*?)[ \t\r]*")
QUOTED = re.compile(r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)")(?:[ \t]+#.*)?""")
ESCAPED = re.compile(r'\\(["\\$`])')


@dataclass(frozen=True)
class Line:
    """A line with a value, ``start`` and ``end`` its place in the text, ``mark`` its quote; empty where it has none."""

    name: str
    value: str = field(repr=False)
    start: int
    end: int
    mark: str


def parse(text: str, names: Iterable[str]) -> list[Line]:
    """Return the lines that give one of these names a value."""
    wanted, found, position = set(names), [], 0
    for row in text.split("\n"):
        match = LINE.fullmatch(row)
        if match and match.group(1) in wanted:
            found.append(_line(match, position))
        position += len(row) + 1
    return found


def _line(match: re.Match[str], position: int) -> Line:
    name, raw, start = match.group(1), match.group(2), position + match.start(2)
    quoted = QUOTED.fullmatch(raw)
    if not quoted:
        value = re.split(r"[ \t]+#", raw, maxsplit=1)[0]
        return Line(name, value, start, start + len(value), "")
    single = quoted.group(1) is not None
    inner = quoted.group(1) if single else quoted.group(2)
    end = start + len(inner) + 2
    return Line(name, inner if single else ESCAPED.sub(r"\1", inner), start, end, "'" if single else '"')


def read(text: str, names: Iterable[str], where: str) -> list[Line]:
    """Return the lines of the names; raises :class:`SecretsError` where one has none."""
    names = list(names)
    found = parse(text, names)
    missing = [name for name in names if name not in {line.name for line in found}]
    if missing:
        raise SecretsError(f"{where}: has no {' and no '.join(missing)}; add the line, or name another variable")
    return found


def render(text: str, wanted: Mapping[str, str], where: str) -> str:
    """Return ``text`` with the wanted values, in the quotes that were there, and all else to the letter."""
    result = text
    for line in reversed(read(text, wanted, where)):
        if line.value != wanted[line.name]:
            result = result[: line.start] + _written(wanted[line.name], line, where) + result[line.end :]
    if [(line.name, line.value) for line in parse(result, wanted)] != [
        (line.name, wanted[line.name]) for line in parse(text, wanted)
    ]:
        raise SecretsError(f"{where}: its lines cannot be changed safely; put each variable on a line of its own")
    return result


def _written(value: str, line: Line, where: str) -> str:
    inner = re.sub(r'["\\$`]', r"\\\g<0>", value) if line.mark == '"' else value
    broken = line.mark == "'" and "'" in value
    bare = not line.mark and (value != value.strip() or value[:1] in ("'", '"') or re.search(r"[ \t]#", value))
    if broken or bare or re.search(r"[\n\r\0]", value):
        raise SecretsError(
            f"{where}: the new {line.name} cannot be written in the quotes that its line has; change them"
        )
    return line.mark + inner + line.mark
