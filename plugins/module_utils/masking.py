# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take secret values out of text before anybody sees it."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterable

MASK = "********"

# Shorter values would mask ordinary words; no generated secret is this short.
MIN_LENGTH = 6


def encoded_forms(value: str) -> set[str]:
    """Return the forms in which programs tend to print ``value``.

    Plain, base64 (also URL-safe, with and without padding), percent-encoded, JSON-escaped and hexadecimal.
    """
    raw = value.encode("utf-8", "surrogateescape")
    standard = base64.b64encode(raw).decode()
    url_safe = base64.urlsafe_b64encode(raw).decode()
    return {
        value,
        standard,
        standard.rstrip("="),
        url_safe,
        url_safe.rstrip("="),
        urllib.parse.quote(raw, safe=""),
        urllib.parse.quote_plus(raw, safe=""),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        raw.hex(),
        raw.hex().upper(),
    }


class Masker:
    """Replaces every known form of the given values by ``********``."""

    def __init__(self, values: Iterable[str | None] = ()) -> None:
        self._forms: list[str] = []
        self.add(*values)

    def add(self, *values: str | None) -> None:
        """Learn further values; ``None`` and values shorter than six characters are passed over."""
        forms = set(self._forms)
        for value in values:
            if value and len(value) >= MIN_LENGTH:
                forms |= encoded_forms(value)
        # The longest first, so that no remainder of a longer form is left behind.
        self._forms = sorted(forms, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """Return ``text`` without any of the values."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text
