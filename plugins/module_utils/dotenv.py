# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and write ``.env`` as Docker Compose reads it.

Compose's dialect has rules of its own (a comment needs a space before its ``#``, a quoted value may span lines and be
followed by the next statement, a bare name takes its value from the shell). The tests compare this file with the real
Compose over generated and hand-written lines.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

BOM = "\ufeff"

# Safe without quotes, for Compose and for a shell that sources the file.
PLAIN = re.compile(r"(?!~)[A-Za-z0-9._~/@%+,-]*")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Go's unicode.IsSpace; Python's str.isspace() knows four characters more.
SPACE = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {chr(n) for n in range(0x2000, 0x200B)}
BLANK = frozenset("\t\v\f\r \x85\xa0")

EXPORT = re.compile(r"export[\t\n\f\r ]+")
ESCAPE = re.compile(r'\\(?:[abcfnrtv$"\\]|0[0-9]{0,3})')
ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\", "$": "$$"}
REFERENCE = re.compile(r"\$(?:\$|[_a-z][_a-z0-9]*|\{)", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One statement; the positions are offsets in the text."""

    key: str
    # None: only Compose knows it, because it comes from other variables or from the shell.
    value: str | None = field(repr=False)
    line: int
    start: int
    key_end: int
    # None for a bare name.
    value_start: int | None
    end: int


def parse(text: str, where: str = ".env") -> list[Entry]:
    """Return the statements in their order; :class:`SecretsError` names the line that Compose would refuse, too.

    ``text`` is the file decoded as UTF-8 with ``surrogateescape`` and with its line endings as they are.
    """
    entries: list[Entry] = []
    position = 1 if text.startswith(BOM) else 0
    while True:
        position = _skip(text, position)
        if position == len(text):
            return entries
        entry, position = _statement(text, position, where)
        if entry.value_start is not None and (not entry.key or "\0" in (entry.value or "")):
            raise SecretsError(f"{where} line {entry.line}: no name, or a NUL in the value; correct the line")
        entries.append(entry)


def values(text: str, names: Iterable[str] | None = None, where: str = ".env") -> dict[str, str]:
    """Return what Compose reads, of all keys or of those in ``names`` that are there.

    A value that comes from other variables or from the shell cannot be known here: :class:`SecretsError` names its key.
    """
    wanted = None if names is None else set(names)
    last = {entry.key: entry for entry in parse(text, where) if wanted is None or entry.key in wanted}
    found = {}
    for key, entry in last.items():
        if entry.value is None:
            source = "the shell" if entry.value_start is None else "other variables"
            raise SecretsError(
                f"{where} line {entry.line}: {key} takes its value from {source}, which only Compose can resolve; "
                "write the value itself"
            )
        found[key] = entry.value
    return found


def quote(value: str, name: str = "value", force: bool = False) -> str:
    """Return ``value`` so that Compose reads exactly it; without quotes where that is safe, unless ``force``."""
    if "\0" in value or not _is_unicode(value):
        raise SecretsError(f"{name}: holds a NUL or a broken character, which no .env file can carry; change the value")
    if not force and PLAIN.fullmatch(value):
        return value
    # Between single quotes Compose changes nothing, but a backslash before a quote hides that quote.
    if "'" not in value and not value.endswith("\\") and not any(unicodedata.category(char) == "Cc" for char in value):
        return f"'{value}'"
    escaped = re.sub(r'[\\"$]', r"\\\g<0>", value)
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def render(text: str, wanted: Mapping[str, str], where: str = ".env") -> str:
    """Return ``text`` with the wanted values in it, and everything else byte for byte as it was.

    A key that is there keeps its place, ``export`` and comment, and is left alone when it has the value already.
    Where it is there more than once its first place is kept, so that lines which refer to it still come after it.
    """
    for key in wanted:
        if not NAME.fullmatch(key):
            raise SecretsError(f"values: {key!r} is no variable name; use letters, digits and '_'")
    parse(text, where)
    newline = re.search(r"\r?\n", text)
    ending = newline.group() if newline else "\n"
    complete = text if text.endswith("\n") or not text.strip(BOM) else text + ending

    edits: list[tuple[int, int, str]] = []
    occurrences: dict[str, list[Entry]] = {}
    for entry in parse(complete, where):
        if entry.key in wanted:
            occurrences.setdefault(entry.key, []).append(entry)
    for key, (first, *others) in occurrences.items():
        edits += [_replaced(complete, first, key, wanted[key])] if first.value != wanted[key] else []
        edits += [_removed(complete, entry) for entry in others]
    result = complete
    for start, end, new in sorted(edits, reverse=True):
        result = result[:start] + new + result[end:]
    missing = [key for key in wanted if key not in occurrences]
    result += "".join(f"{key}={quote(wanted[key], key)}{ending}" for key in missing)

    _verify(complete, result, wanted, where)
    if complete != text and not missing and all(end < len(complete) for _start, end, _new in edits):
        result = result.removesuffix(ending)
    return result


def _skip(text: str, position: int) -> int:
    """Return where the next statement begins, or the end: space and whole-line comments are passed over."""
    while position < len(text):
        if text[position] == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif text[position] not in SPACE:
            break
        else:
            position += 1
    return position


def _statement(text: str, start: int, where: str) -> tuple[Entry, int]:
    """Return the statement at ``start`` and where the text goes on."""
    line = text.count("\n", 0, start) + 1
    begin = start
    if EXPORT.match(text, start):
        begin = _after_blanks(text, start + len("export"))
        if begin == len(text):
            raise SecretsError(f"{where} line {line}: export without a name; complete or remove the line")
    position = begin
    while position < len(text) and text[position] not in "=:\n":
        char = text[position]
        if char not in BLANK and char not in "_.-[]" and unicodedata.category(char)[0] not in "LN":
            raise SecretsError(f"{where} line {line}: not KEY=value, which Compose refuses too; correct the line")
        position += 1
    if position == len(text):
        raise SecretsError(f"{where} line {line}: a name alone at the very end, which Compose refuses; end the line")
    key_end = begin + len(_strip(text[begin:position]))
    key = text[begin:key_end]
    if " " in key:
        raise SecretsError(f"{where} line {line}: a space in the name, which Compose refuses too; correct the line")
    if text[position] == "\n":
        return Entry(key, None, line, start, key_end, None, key_end), position + 1

    value_start = _after_blanks(text, position + 1)
    if text[value_start : value_start + 1] in ("'", '"'):
        quoted, end = _quoted(text, value_start, f"{where} line {line}")
        value = quoted if text[value_start] == "'" else _expanded(ESCAPE.sub(_unescaped, quoted))
        return Entry(key, value, line, start, key_end, value_start, end), end
    newline = text.find("\n", value_start)
    line_end = len(text) if newline < 0 else newline
    raw = _strip(text[value_start:line_end].split(" #", 1)[0])
    if not raw:
        # Right after the separator, not behind the blanks, of which a carriage return is one.
        value_start = position + 1
    entry = Entry(key, _expanded(raw), line, start, key_end, value_start, value_start + len(raw))
    return entry, min(line_end + 1, len(text))


def _quoted(text: str, start: int, where: str) -> tuple[str, int]:
    chars: list[str] = []
    mark, escape = text[start], ""
    for position in range(start + 1, len(text)):
        char = text[position]
        if char == mark and not escape:
            return "".join(chars), position + 1
        if char == "\\" and not escape:
            escape = char
            continue
        chars.append(char if char == mark else escape + char)
        escape = ""
    raise SecretsError(f"{where}: the quote that begins here is never closed; close it")


def _unescaped(match: re.Match[str]) -> str:
    body = match.group()[1:]
    if body[0] != "0":
        return ESCAPED.get(body, match.group())
    digits = body[1:]
    if re.fullmatch("[0-3][0-7]{2}", digits):
        return chr(int(digits, 8))
    return "\\" + digits


def _expanded(value: str) -> str | None:
    """Return the value with ``$$`` read as ``$``; ``None`` where it refers to a variable."""
    if any(found != "$$" for found in REFERENCE.findall(value)):
        return None
    return value.replace("$$", "$")


def _after_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in BLANK:
        position += 1
    return position


def _strip(text: str) -> str:
    """Return ``text`` without the space at its end."""
    end = len(text)
    while end and text[end - 1] in SPACE:
        end -= 1
    return text[:end]


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rest_of_line(text: str, position: int) -> tuple[str, int]:
    """Return what follows on the line, and where the line ends (before its newline)."""
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    return text[position:end], end


def _replaced(text: str, entry: Entry, key: str, value: str) -> tuple[int, int, str]:
    rest, _unused = _rest_of_line(text, entry.end)
    # A comment or another statement follows: quotes keep the two apart, also where the value is empty.
    new = quote(value, key, force=bool(rest.strip()))
    if entry.value_start is None:
        return entry.key_end, entry.key_end, f"={new}"
    return entry.value_start, entry.end, new


def _removed(text: str, entry: Entry) -> tuple[int, int, str]:
    line_start = text.rfind("\n", 0, entry.start) + 1
    rest, line_end = _rest_of_line(text, entry.end)
    alone = not text[line_start : entry.start].strip() and (not rest.strip() or rest.lstrip().startswith("#"))
    return (line_start, line_end + 1, "") if alone else (entry.start, entry.end, "")


def _verify(before: str, after: str, wanted: Mapping[str, str], where: str) -> None:
    """Refuse a result that would say anything else than what was asked for."""

    def foreign(text: str) -> list[str]:
        return [text[entry.start : entry.end] for entry in parse(text, where) if entry.key not in wanted]

    if values(after, wanted, where) != dict(wanted) or foreign(before) != foreign(after):
        raise SecretsError(f"{where}: its lines cannot be changed safely; put each variable on a line of its own")
