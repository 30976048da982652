# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""User name and password inside a URI: read, compared and replaced; everything else is kept to the letter.

They stand before the host (``postgresql://user:password@host/db``, several hosts too) or in the query
(``jdbc:postgresql://host/db?user=…&password=…``), percent-encoded as RFC 3986 says. Where programs disagree about what is
meant, the URI is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

START = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)+//")
PARAMETER = re.compile(r"(?<=[?&])(user|password)=([^&]*)")
BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Uri:
    """A URI with its login; the spans are where user name and password stand, encoded, in ``text``."""

    text: str = field(repr=False)
    user: str
    password: str = field(repr=False)
    spans: tuple[tuple[int, int], tuple[int, int]] = field(repr=False)

    @property
    def login(self) -> str:
        """The login alone, in one form for every spelling."""
        return login_part(self.user, self.password)

    @property
    def template(self) -> str:
        """The URI with nobody's login."""
        return self._filled("user", "password")

    @property
    def spelling(self) -> list[str]:
        """User and password as they are typed."""
        return [self.text[begin:end] for begin, end in self.spans]

    @property
    def is_plain(self) -> bool:
        """Whether the login is typed as it would be written here."""
        return self.spelling == [quote(part, safe="") for part in (self.user, self.password)]

    def with_login(self, user: str, password: str, spelling: Sequence[str] = ()) -> str:
        """Return the URI with another login; where it is the same one, as it is.

        ``spelling`` is how the login was typed before: who gets it back shall not take it for something new.
        """
        if (user, password) == (self.user, self.password):
            return self.text
        if spelling and [unquote(part) for part in spelling] == [user, password]:
            return self._filled(*spelling)
        return self._filled(quote(user, safe=""), quote(password, safe=""))

    def _filled(self, *parts: str) -> str:
        text = self.text
        for (begin, end), part in sorted(zip(self.spans, parts), reverse=True):
            text = text[:begin] + part + text[end:]
        return text


def login_part(user: str, password: str) -> str:
    """Return a login as it stands in a URI, ``//user:password@``: what a variable that holds a URI has of a credential."""
    return f"//{quote(user, safe='')}:{quote(password, safe='')}@"


def parse(text: str, where: str) -> Uri:
    """Return a URI and its login; raises :class:`SecretsError`, which never quotes it, where there is none or two."""
    found = _spans(text, where)
    user, password = (text[begin:end] for begin, end in found)
    for part in (user, password):
        if BROKEN_ESCAPE.search(part):
            raise SecretsError(f"{where}: has a % in its login that begins no escape; write %25 for a %")
    try:
        return Uri(text, unquote(user, errors="strict"), unquote(password, errors="strict"), found)
    except UnicodeDecodeError:
        raise SecretsError(f"{where}: its login is not UTF-8; percent-encode it anew") from None


def fill(text: str, login: str, where: str, spelling: Sequence[str] = ()) -> str:
    """Return a URI with another login (``//user:password@``) in it."""
    given = parse(f"x:{login}", where)
    return parse(text, where).with_login(given.user, given.password, spelling)


def login_in(text: str) -> str | None:
    """Return the login of a URI in one form for every spelling; ``None`` where it has none that is understood."""
    try:
        return parse(text, "").login
    except SecretsError:
        return None


def _spans(text: str, where: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where user name and password stand."""
    start = START.match(text)
    if not start:
        raise SecretsError(f"{where}: is no URI such as postgresql://user:password@host/database")
    begin = start.end()
    end = begin + len(re.split(r"[/?#]", text[begin:], maxsplit=1)[0])
    before, at, _hosts = text[begin:end].rpartition("@")
    if "@" in before or (not at and "@" in text[end:].partition("?")[0]):
        raise SecretsError(
            f"{where}: has a reserved character in its login or an @ too many; percent-encode them (@ is %40, / is %2F)"
        )
    query = text.find("?", end)
    parameters = list(PARAMETER.finditer(text, query)) if query >= 0 else []
    if at and parameters:
        raise SecretsError(f"{where}: has a login before its host and user or password after it; keep one of the two")
    if at:
        user, colon, _password = before.partition(":")
        if not user or not colon:
            raise SecretsError(f"{where}: lacks the user or the password before its host; write both, user:password@")
        middle = begin + len(user)
        return (begin, middle), (middle + 1, begin + len(before))
    names = sorted(one.group(1) for one in parameters)
    if names != ["password", "user"]:
        found = " and ".join(names) or "neither"
        raise SecretsError(
            f"{where}: holds no login, user:password@ before the host or both as parameters; has {found}"
        )
    if "#" in text[query:]:
        raise SecretsError(f"{where}: has a # after its login; write %23 if it belongs to the password")
    spans = {one.group(1): one.span(2) for one in parameters}
    return spans["user"], spans["password"]
