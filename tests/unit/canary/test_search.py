# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The search of the canary test finds a value in every form, cut and embedded, and nothing else."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import seal
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys
from ansible_collections.chat4all.secrets.tests.canary.search import Channel, Needles, unsealed
from cryptography.hazmat.primitives import serialization

VALUE = 'p/q+r%s&t="u\\v@w:x~ä-0123456789abcdef'
SHORT = "a/b+c%d"


def found(data: bytes | str, value: str = VALUE) -> list[str]:
    needles, channel = Needles(), Channel("output")
    needles.add("password", value)
    channel.add("a run", data)
    return [label for label, _source in channel.search(needles)]


@pytest.mark.parametrize("value", [VALUE, SHORT])
@pytest.mark.parametrize("before", [0, 1, 2, 3, 11, 12, 13])
@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(("user:" + text).encode()).decode(),
        lambda text: urllib.parse.quote(text, safe=""),
        lambda text: urllib.parse.quote_plus(text, safe=""),
        lambda text: json.dumps({"password": text}),
        lambda text: json.dumps({"password": text}, ensure_ascii=False),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
    ],
)
def test_a_value_is_found_in_every_form_at_every_place(value, before, encode):
    assert found("-" * before + encode(value) + "-", value)


@pytest.mark.parametrize("encode", [json.dumps, repr, lambda text: "\n".join([text[:20], text[20:]])])
def test_a_value_is_found_although_its_form_was_encoded_again_or_wrapped(encode):
    value = "0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
    assert found(encode(json.dumps(value)), value)


def test_a_part_of_23_characters_is_found_wherever_it_begins():
    value = "0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
    for start in range(len(value) - 23):
        for before in range(12):
            assert found("." * before + value[start : start + 23] + ".", value)


def test_nothing_is_found_where_nothing_is():
    assert found("0123456789 a password that was not asked for, cGFzc3dvcmQ=") == []
    assert found(VALUE[:11]) == []


def test_what_a_vaulted_file_has_in_common_with_a_hexadecimal_value_is_no_find():
    """Such a file is the hexadecimal form of hexadecimal digits: some in a row are the same soon."""
    value = "0123456789abcdef" * 4
    assert found(value[:11].encode().hex() + "0" * 12, value) == []
    assert found(value[:12].encode().hex(), value) == ["password"]


def test_each_line_of_a_private_key_is_found_and_its_number_however_it_is_written():
    pem = jwt_keys.make("ES256")["password"]
    private = serialization.load_pem_private_key(pem.encode(), None)
    number = private.private_numbers().private_value
    raw = number.to_bytes(32, "big")
    _begin, *lines, _end = pem.splitlines()
    jwk = {"kty": "EC", "d": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
    for text in [pem, repr(pem), json.dumps(pem), "".join(lines), *lines, json.dumps(jwk), raw.hex(), str(number)]:
        for before in range(12):
            assert found("-" * before + text, pem), text


def test_what_keys_have_in_common_and_what_is_public_is_no_find():
    mine, another = (jwt_keys.make("ES256") for _unused in range(2))
    assert found(another["password"], mine["password"]) == []
    assert found(jwt_keys.jwks({**mine, "created": ""}), mine["password"]) == []


def test_a_verifier_is_found_by_its_looks():
    assert found("ALTER ROLE x PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy'")
    assert not found("connection authenticated: method=scram-sha-256; SCRAM-SHA-256 is a method")


def test_a_sealed_value_is_open_where_its_key_shows():
    key = bytes(range(32))
    output, log = Channel("output"), Channel("syslog")
    output.add("a run", json.dumps({"changed": False, "sealed": seal(key, b"value")}))
    log.add("/dev/log", f"Invoked with seal_key={bytes(32).hex()} other")
    assert unsealed([output, log]) == []
    log.add("/dev/log", f"Invoked with seal_key={key.hex()} other")
    assert unsealed([output, log]) == ["syslog"]
