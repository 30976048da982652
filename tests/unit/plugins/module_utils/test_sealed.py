# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import os

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import seal, unseal

KEY = bytes(range(32))
DATA = "a p\u00e4ssword, longer than one block of the key stream".encode()
# Computed with the openssl command alone, with the bytes 100 to 115 as the nonce.
KNOWN = (
    "ZGVmZ2hpamtsbW5vcHFycz4u/N3hA5x3QjTC3mHHWQnRnHUXn+N5EIIdfOvA8nuPAKpGARbvhMO1x0dw"
    "uZTJmR66NUYPR6tz7RTm6xy6EuJxn1rnwcaM4kGU4EOqHCXE4rKzow=="
)


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 31, b"\xff" * 32, DATA, os.urandom(10_000)])
def test_what_was_sealed_comes_out_unchanged(data):
    assert unseal(KEY, seal(KEY, data)) == data


def test_an_answer_computed_by_openssl(monkeypatch):
    monkeypatch.setattr("os.urandom", lambda count: bytes(range(100, 100 + count)))
    assert seal(KEY, DATA) == KNOWN
    assert unseal(KEY, KNOWN) == DATA


def test_equal_values_look_different_and_show_nothing():
    first, second = seal(KEY, DATA), seal(KEY, DATA)
    assert first != second
    assert DATA not in base64.b64decode(first)


def test_any_changed_bit_is_noticed():
    raw = base64.b64decode(seal(KEY, DATA))
    for position in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(SecretsError):
            unseal(KEY, base64.b64encode(bytes(changed)).decode())


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", "\u00e4", KNOWN[:-4], KNOWN + "AAAA", KNOWN[4:], "A" * 64])
def test_a_broken_text_is_one_clear_error(text):
    with pytest.raises(SecretsError, match="was changed on its way"):
        unseal(KEY, text)


def test_another_key_opens_nothing():
    with pytest.raises(SecretsError, match="another key"):
        unseal(bytes(32), seal(KEY, DATA))
