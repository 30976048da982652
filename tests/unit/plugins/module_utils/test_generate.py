# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import math
import re
import sys
from collections import Counter

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import generate
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("password", r"[A-Za-z0-9._~-]{32}"),
        ("hex_key", r"[0-9a-f]{64}"),
        ("uuid4", r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
        ("token", r"[A-Za-z0-9]{64}"),
    ],
)
def test_each_kind_has_its_form(kind: str, form: str) -> None:
    values = {generate.generate(kind).value for _unused in range(50)}
    assert len(values) == 50
    assert all(re.fullmatch(form, value) for value in values)


def test_a_password_has_every_class_also_where_chance_would_leave_one_out() -> None:
    for _unused in range(200):
        value = generate.generate(length=6, min_entropy=1).value
        assert all(set(members) & set(value) for members in generate.KINDS["password"].classes)


def test_forbidden_characters_do_not_occur() -> None:
    forbidden = "aeiou01.-"
    values = "".join(generate.generate(forbidden=forbidden).value for _unused in range(50))
    assert not set(values) & set(forbidden)


@pytest.mark.parametrize("min_classes", [1, 2, 3])
def test_entropy_counts_exactly_the_values_that_satisfy_the_policy(min_classes: int) -> None:
    classes = ("ab", "C", "12")
    possible = [
        value
        for value in itertools.product("abC12", repeat=4)
        if sum(bool(set(members) & set(value)) for members in classes) >= min_classes
    ]
    assert generate.entropy(classes, 4, min_classes) == math.floor(math.log2(len(possible)) * 100) / 100


def test_every_possible_value_is_equally_probable() -> None:
    policy = generate.Policy("password", ("a", "bc"), 2, 2, 0)
    counts = Counter(policy.draw().value for _unused in range(4000))
    assert set(counts) == {"ab", "ac", "ba", "ca"}
    # 1000 expected each; a shuffled "one of each class, then the rest" would be far off for longer values.
    assert all(850 < count < 1150 for count in counts.values())


@pytest.mark.parametrize(
    ("kind", "bits"), [("password", 193.2), ("hex_key", 256.0), ("uuid4", 122.0), ("token", 381.06)]
)
def test_entropy_is_returned_and_beyond_the_minimum(kind: str, bits: float) -> None:
    assert generate.generate(kind).entropy_bits == bits


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "secret"}, "kind: unknown 'secret'; use password, hex_key, uuid4, token"),
        ({"lenght": 32}, "lenght: no part of a generation rule; there are kind, length, min_classes, min_entropy"),
        ({"length": "long"}, "length: must be a number, not 'long'"),
        ({"length": True}, "length: must be a number, not True"),
        ({"length": 32.5}, "length: must be a number, not 32.5"),
        ({"min_entropy": [128]}, "min_entropy: must be a number, not [128]"),
        ({"forbidden": 0}, "forbidden: must be a string of characters"),
        ({"kind": ["token"]}, "kind: unknown ['token']"),
        ({"length": 0}, "length: must be 1 to 1024, not 0"),
        ({"length": 2000}, "length: must be 1 to 1024, not 2000"),
        ({"length": 3, "min_entropy": 1}, "length: 3 characters cannot hold 4 classes; use 4 or more"),
        ({"length": 16}, "min_entropy: a password of 16 characters has 95.92 bits, not 128; use length 22 or more"),
        ({"min_entropy": 1e6}, "no length up to 1024 reaches it; ask for less"),
        ({"min_entropy": math.nan}, "min_entropy: must be a number, not nan"),
        ({"kind": "uuid4", "min_entropy": "nan"}, "min_entropy: must be a number"),
        ({"min_classes": 0}, "min_classes: must be 1 or more, not 0"),
        ({"min_classes": 5}, "min_classes: 5 wanted, a password has 4; ask for fewer classes"),
        ({"forbidden": "-._~"}, "min_classes: 4 wanted, a password has 3 after the forbidden ones"),
        ({"kind": "token", "min_classes": 4}, "min_classes: 4 wanted, a token has 3; ask for fewer classes"),
        ({"kind": "hex_key", "forbidden": "0123456789abcdef"}, "forbidden: leaves no character for a hex_key"),
        ({"kind": "hex_key", "length": 33}, "length: 33 hexadecimal digits are no whole bytes; use 34"),
        ({"kind": "hex_key", "length": 30}, "has 120 bits, not 128; use length 32 or more"),
        ({"kind": "uuid4", "length": 36}, "length: a uuid4 has a fixed form; leave length out or use kind token"),
        ({"kind": "uuid4", "min_classes": 1}, "min_classes: a uuid4 has a fixed form"),
        ({"kind": "uuid4", "forbidden": "a"}, "forbidden: a uuid4 has a fixed form"),
        ({"kind": "uuid4", "min_entropy": 128}, "min_entropy: a uuid4 has 122 bits, not 128; use kind token"),
    ],
)
def test_an_impossible_request_is_refused_in_one_line(rule: dict, message: str) -> None:
    with pytest.raises(SecretsError) as caught:
        generate.policy(**rule)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_rule_may_come_from_a_template_that_made_its_numbers_text() -> None:
    assert generate.generate(kind="token", length="40", min_entropy="128").value.isalnum()


def test_the_length_that_a_refusal_names_is_enough_and_the_shortest() -> None:
    with pytest.raises(SecretsError) as caught:
        generate.policy(length=10, min_entropy=100)
    length = int(re.search(r"use length (\d+)", caught.value.message).group(1))
    assert generate.policy(length=length, min_entropy=100).entropy_bits >= 100
    with pytest.raises(SecretsError):
        generate.policy(length=length - 1, min_entropy=100)


def test_a_value_does_not_show_in_its_representation() -> None:
    generated = generate.generate()
    assert generated.value not in repr(generated)


def test_scram_verifier_gives_the_server_signature_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = generate.scram_sha_256("pencil", salt, 4096)
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    exchange = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
    server_key = base64.b64decode(verifier.rsplit(":", 1)[1])
    signature = hmac.digest(server_key, exchange.encode(), hashlib.sha256)
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert verifier.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")


def test_scram_verifier_matches_its_own_password_only() -> None:
    value = generate.generate().value
    verifier = generate.scram_sha_256(value)
    assert generate.scram_matches(verifier, value)
    assert not generate.scram_matches(verifier, value + "x")
    assert generate.scram_sha_256(value) != verifier


@pytest.mark.parametrize(
    "verifier",
    [None, "", "md5d41d8cd98f00b204e9800998ecf8427e", "SCRAM-SHA-256$0:AAAA$AAAA:AAAA", "SCRAM-SHA-256$4096:A$A:A"],
)
def test_what_is_no_scram_verifier_matches_nothing(verifier: str | None) -> None:
    assert not generate.scram_matches(verifier, "")


@pytest.mark.parametrize(
    ("password", "same_as"),
    [
        ("I\u00adX", "IX"),  # RFC 4013's examples: a soft hyphen is dropped,
        ("\u00aa", "a"),  # and compatibility characters are replaced
        ("\u2168", "IX"),
        ("p\u00a0w", "p w"),  # an unusual space is a space
    ],
)
def test_scram_passwords_are_prepared_as_rfc_4013_says(password: str, same_as: str) -> None:
    assert generate.scram_matches(generate.scram_sha_256(password), same_as)


@pytest.mark.parametrize("password", ["\u00aa\u0627\u0031", "\u00ad", "\u00aa\u0007", "\u00aa\u0221"])
def test_scram_passwords_that_cannot_be_prepared_are_used_as_they_are(password: str) -> None:
    salt = b"0123456789abcdef"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    server_key = base64.b64encode(hmac.digest(salted, b"Server Key", hashlib.sha256)).decode()
    assert generate.scram_sha_256(password, salt).endswith(server_key)


def test_bcrypt_is_refused_beyond_72_bytes_instead_of_passing_over_the_rest() -> None:
    with pytest.raises(SecretsError, match="bcrypt looks at 72 bytes and this value has 74"):
        generate.password_hash("bcrypt", "\u00e9" * 37)
    with pytest.raises(SecretsError, match="bcrypt looks at 72 bytes and this value has 73"):
        generate.check_hashes(["bcrypt"], 73)


def test_an_unknown_hash_is_refused() -> None:
    with pytest.raises(SecretsError, match="hashes: unknown 'md5'; use scram_sha_256, bcrypt, sha512_crypt"):
        generate.password_hash("md5", "x")


def test_missing_passlib_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "passlib", None)
    with pytest.raises(SecretsError, match="needs the Python package libpass"):
        generate.check_hashes(["sha512_crypt"], 32)


@pytest.mark.parametrize("scheme", ["bcrypt", "sha512_crypt"])
def test_passlib_hashes_verify(scheme: str) -> None:
    hashers = pytest.importorskip("passlib.hash")
    if scheme == "bcrypt":
        pytest.importorskip("bcrypt")
    assert getattr(hashers, scheme).verify("a value", generate.password_hash(scheme, "a value"))
