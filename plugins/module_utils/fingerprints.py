# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keyed fingerprints: equal for equal values, and saying nothing of them to who lacks the key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv


def fingerprint(key: bytes, value: str) -> str:
    """Return a value's fingerprint: 16 hexadecimal digits."""
    return hmac.new(key, value.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:16]


def foreign(text: str, where: str, key: str | None, known: Mapping[str, Collection[str]]) -> list[str]:
    """Return the variables of an env file whose values are none of the known ones; one that is missing is not foreign.

    ``known`` has fingerprints by variable, made with ``key`` (hexadecimal).
    """
    last = {entry.key: entry.value for entry in dotenv.parse(text, where)} if known else {}
    return sorted(
        name
        for name, fingerprints in known.items()
        if name in last
        and (last[name] is None or fingerprint(bytes.fromhex(key or ""), last[name]) not in fingerprints)
    )
