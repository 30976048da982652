# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hand values from a module to the controller so that nobody who sees the module's result can read them.

Ansible's ssh connection prints what a module writes at ``-vvv``. The controller sends a one-time key with the arguments
(by standard input), and the module seals its values with it: encrypt-then-MAC, from HMAC-SHA256 alone, because targets
have the standard library and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

NONCE = 16
TAG = 32


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.new(key, b"chat4all.secrets sealed " + purpose, hashlib.sha256).digest()


def _keystream(key: bytes, nonce: bytes, length: int) -> bytes:
    blocks = (length + TAG - 1) // TAG
    stream = b"".join(
        hmac.new(key, nonce + number.to_bytes(8, "big"), hashlib.sha256).digest() for number in range(blocks)
    )
    return stream[:length]


def _xor(data: bytes, stream: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(data, stream))


def seal(key: bytes, data: bytes) -> str:
    """Return ``data`` readable with ``key`` alone. ``key`` is 32 random bytes that are used once."""
    nonce = os.urandom(NONCE)
    hidden = _xor(data, _keystream(_derived(key, b"encrypt"), nonce, len(data)))
    tag = hmac.new(_derived(key, b"authenticate"), nonce + hidden, hashlib.sha256).digest()
    return base64.b64encode(nonce + hidden + tag).decode()


def unseal(key: bytes, text: str) -> bytes:
    """Return what was sealed; raises :class:`SecretsError` where the key is another or the text was changed."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    nonce, hidden, tag = raw[:NONCE], raw[NONCE:-TAG], raw[-TAG:]
    expected = hmac.new(_derived(key, b"authenticate"), nonce + hidden, hashlib.sha256).digest()
    if not hmac.compare_digest(tag, expected):
        raise SecretsError(
            "a sealed value was changed on its way or sealed with another key; run the same command again"
        )
    return _xor(hidden, _keystream(_derived(key, b"encrypt"), nonce, len(hidden)))
