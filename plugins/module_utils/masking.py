# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take secret values out of text before anybody sees it."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping

MASK = "********"

# Shorter values would mask ordinary words; no generated secret is this short.
MIN_LENGTH = 6

# The names of variables whose values are secrets, or hold some.
SENSITIVE = re.compile(r"PASS|PWD|PW$|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|URI|URL|DSN|SALT", re.IGNORECASE)
# ``user:password@host``, up to the first and up to the last ``@``: a password may hold one.
LOGIN = re.compile(r"//[^/?#\s:@]*:(?=([^\s@]+)@)(?=(\S+)@)")
SETTING = re.compile(r"(?:pass\w*|pwd|secret|token|\w*key)[\"']?\s*[=:]\s*[\"']?([^\s\"'&;,]+)", re.IGNORECASE)


def sensitive_values(environment: Mapping[str, str | None]) -> set[str]:
    """Return what must not be shown of an environment.

    These are the whole values of variables whose names say so, and, whatever a variable is called, the passwords in
    URLs and connection strings, as they stand there and decoded.
    """
    found = set()
    for name, value in environment.items():
        if not value:
            continue
        if SENSITIVE.search(name):
            found.add(value)
        inner = {part for match in LOGIN.finditer(value) for part in match.groups()} | set(SETTING.findall(value))
        found |= inner | {urllib.parse.unquote(part) for part in inner}
    return found


# What a terminal obeys.
ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]")


def clean(line: str) -> str:
    """Return a line without terminal escapes, control characters and invisible ones."""
    if line.isprintable():
        return line
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "" for char in ESCAPES.sub("", line).rstrip("\r\n")
    )


def encoded_forms(value: str) -> set[str]:
    """Return the forms in which programs tend to print ``value``.

    Plain, base64 (also URL-safe, with and without padding, and as a part of a longer text such as ``user:password``),
    percent-encoded, JSON-escaped, as Python shows it, and hexadecimal.
    """
    raw = value.encode("utf-8", "surrogateescape")
    standard = base64.b64encode(raw).decode()
    url_safe = base64.urlsafe_b64encode(raw).decode()
    inner = {form for offset in range(3) for form in _inside_base64(raw, offset)}
    return inner | {
        value,
        standard,
        standard.rstrip("="),
        url_safe,
        url_safe.rstrip("="),
        urllib.parse.quote(raw, safe=""),
        urllib.parse.quote_plus(raw, safe=""),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        raw.hex(),
        raw.hex().upper(),
    }


def _inside_base64(raw: bytes, offset: int) -> tuple[str, str]:
    """Return the characters that stand for ``raw`` alone where it begins ``offset`` bytes after a multiple of three."""
    padded = b"\0" * offset + raw
    # Where a character holds bits of two bytes, the neighbour decides about it.
    begin, end = (offset * 8 + 5) // 6, len(padded) * 8 // 6
    return base64.b64encode(padded).decode()[begin:end], base64.urlsafe_b64encode(padded).decode()[begin:end]


class Masker:
    """Replaces every known form of the given values by ``********``."""

    def __init__(self, values: Iterable[str | None] = ()) -> None:
        self._forms: list[str] = []
        self.add(*values)

    def add(self, *values: str | None) -> None:
        """Learn further values; ``None`` and values shorter than six characters are passed over.

        The lines of a value count as values, since a log shows them one by one.
        """
        forms = set(self._forms)
        for value in values:
            for part in {value, *value.splitlines()} if value else ():
                if len(part) >= MIN_LENGTH:
                    forms |= encoded_forms(part)
        # The longest first, so that no remainder of a longer form is left behind.
        self._forms = sorted(forms, key=len, reverse=True)

    @property
    def longest(self) -> int:
        """The length of the longest form: a text cut anywhere may begin or end with a piece shorter than this."""
        return len(self._forms[0]) if self._forms else 0

    def mask(self, text: str) -> str:
        """Return ``text`` without any of the values."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def shown(self, line: str) -> str:
        """Return a line as a terminal may show it: masked, and nothing in it that a terminal obeys."""
        return self.mask(clean(self.mask(line)))
