# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keyed fingerprints: equal for equal values, and saying nothing of them to who lacks the key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.module_utils.uris import login_in


def fingerprint(key: bytes, value: str) -> str:
    """Return a value's fingerprint: 16 hexadecimal digits."""
    return hmac.new(key, value.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:16]


def foreign(text: str, where: str, key: str | None, known: Mapping[str, Collection[str]]) -> list[str]:
    """Return the variables of an env file whose values are none of the known ones; one that is missing is not foreign.

    ``known`` has fingerprints by variable, made with ``key`` (hexadecimal). Of a URI its login alone may be known: what
    else somebody has changed in it is no other credential.
    """
    last = {entry.key: entry.value for entry in dotenv.parse(text, where)} if known else {}
    return sorted(name for name, ours in known.items() if name in last and not _is_known(last[name], key, ours))


def _is_known(value: str | None, key: str | None, fingerprints: Collection[str]) -> bool:
    forms = [value, login_in(value)] if value is not None else []
    return any(form is not None and fingerprint(bytes.fromhex(key or ""), form) in fingerprints for form in forms)
