# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json

import jwt
import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import ALGORITHMS
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys, jwt_schedule
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

KEY_PAIRS = [name for name in ALGORITHMS if name != "HS256"]
SHARED = {"key": "JWT_SIGNING_KEY", "secondary": "JWT_SIGNING_KEY_SECONDARY"}
PUBLISHED = {"key": "JWT_SIGNING_KEY", "jwks": "JWT_JWKS", "kid": "JWT_KEY_ID"}


def key(algorithm, day=1):
    return {**jwt_keys.make(algorithm), "created": f"2026-01-{day:02}T00:00:00+00:00"}


def test_a_shared_key_has_256_bits():
    made = jwt_keys.make("HS256")
    assert len(bytes.fromhex(made["password"])) == 32
    assert made != jwt_keys.make("HS256")


@pytest.mark.parametrize("algorithm", KEY_PAIRS)
def test_pyjwt_verifies_by_the_document_what_it_signs_with_the_private_key(algorithm):
    old, new = key(algorithm), key(algorithm, 2)
    found = jwt_keys.values(PUBLISHED, {"current": old, "next": new})
    document = jwt.PyJWKSet.from_json(found["JWT_JWKS"])
    for one in (old, new):
        token = jwt.encode({"sub": "x"}, one["password"], algorithm, headers={"kid": one["user"]})
        assert jwt.decode(token, document[one["user"]].key, [algorithm]) == {"sub": "x"}
    assert (found["JWT_SIGNING_KEY"], found["JWT_KEY_ID"]) == (old["password"], old["user"])
    assert "BEGIN PRIVATE KEY" in old["password"]


def rsa_key(bits):
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def test_a_key_in_use_that_others_may_know_or_find_is_told():
    assert jwt_keys.imported("generate_strong_key_here", "HS256")["weak"] == "is still a placeholder"
    assert jwt_keys.imported("aaaaaaaaaaaa", "HS256")["weak"] == "is weak"
    assert "weak" not in jwt_keys.imported("no hex, but long enough for this", "HS256")
    assert jwt_keys.imported(rsa_key(1024), "RS256")["weak"] == "has less than 2048 bits"
    # As others write it: PKCS #1, and lines that end as in DOS.
    assert "weak" not in jwt_keys.imported(rsa_key(2048).replace("\n", "\r\n"), "RS256")
    assert not any("weak" in jwt_keys.make(algorithm) for algorithm in ALGORITHMS)


@pytest.mark.parametrize("algorithm", KEY_PAIRS)
def test_the_document_holds_nothing_private(algorithm):
    members = {"RS256": {"n", "e"}, "ES256": {"crv", "x", "y"}, "EdDSA": {"crv", "x"}}[algorithm]
    [found] = json.loads(jwt_keys.jwks(key(algorithm)))["keys"]
    assert set(found) == {"kty", "kid", "use", "alg"} | members


def test_the_thumbprint_is_the_one_of_rfc_7638():
    jwk = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok"
        "nA7HZuj-TUYmPY-uhRzkKaCwzFJ4CXjDxGBv6s6FBJcd-kEhdhC6K9bq2EUx5sB1nqPLYbQBP0IH-qiFvzCKBL0qVgQ_FfjxM5u9pZQZvZrHKDHrKZ"
        "-9nZfZ4ZK7kpH2YGcA",
        "e": "AQAB",
    }
    # RFC 8037, appendix A.3: an Ed25519 key.
    okp = {"crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert jwt_keys.thumbprint(okp) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert jwt_keys.thumbprint(jwk) != jwt_keys.thumbprint(okp)


@pytest.mark.parametrize("algorithm", KEY_PAIRS)
def test_promotion_leaves_the_document_as_it_is(algorithm):
    old, new = key(algorithm), key(algorithm, 2)
    before = jwt_keys.values(PUBLISHED, {"current": old, "next": new})
    after = jwt_keys.values(PUBLISHED, {"current": new, "previous": old})
    assert before["JWT_JWKS"] == after["JWT_JWKS"]
    assert before["JWT_SIGNING_KEY"] != after["JWT_SIGNING_KEY"]


def test_a_key_in_use_that_is_none_of_the_algorithm_is_refused():
    with pytest.raises(SecretsError, match="no private key for ES256"):
        jwt_keys.imported(jwt_keys.make("RS256")["password"], "ES256")
    with pytest.raises(SecretsError, match="no private key for RS256"):
        jwt_keys.imported("change_me", "RS256")


@pytest.mark.parametrize(
    ("slots", "second"),
    [
        ({"next": "n"}, "n"),
        ({"previous": "p"}, "p"),
        ({"spare": "s"}, "s"),
        ({}, None),
        ({"next": "n", "spare": "s"}, "n"),
    ],
)
def test_the_second_variable_is_the_key_that_only_verifies(slots, second):
    full = {label: {"password": value} for label, value in {"current": "c", **slots}.items()}
    found = jwt_keys.values(SHARED, full)
    assert (found["JWT_SIGNING_KEY"], found.get("JWT_SIGNING_KEY_SECONDARY")) == ("c", second)


def accepts(found, token, algorithm):
    """What a service does with the variables that it was given."""
    if "JWT_JWKS" in found:
        published = {one.key_id: one.key for one in jwt.PyJWKSet.from_json(found["JWT_JWKS"]).keys}
        keys = [published.get(jwt.get_unverified_header(token)["kid"])]
    else:
        keys = [found["JWT_SIGNING_KEY"], found.get("JWT_SIGNING_KEY_SECONDARY")]
    for one in filter(None, keys):
        with contextlib.suppress(jwt.InvalidSignatureError):
            jwt.decode(token, one, [algorithm])
            return True
    return False


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_whoever_was_replaced_first_each_verifies_what_any_other_signs(algorithm):
    """So no order of waves, no dependency, no second container of a service and no way back makes a token invalid."""
    variables = SHARED if algorithm == "HS256" else PUBLISHED
    spare = {**key(algorithm), "user": "spare"} if algorithm == "HS256" else None
    slots = {"current": key(algorithm)}
    for phase in jwt_schedule.PHASES:
        aimed = jwt_schedule.begun(slots, phase, key(algorithm, 2), spare)
        both = [jwt_keys.values(variables, one) for one in (slots, aimed)]
        for signer in both:
            headers = {"kid": signer.get("JWT_KEY_ID")} if "kid" in variables else None
            token = jwt.encode({"sub": "x"}, signer["JWT_SIGNING_KEY"], algorithm, headers=headers)
            assert all(accepts(verifier, token, algorithm) for verifier in both), phase
        slots = aimed
