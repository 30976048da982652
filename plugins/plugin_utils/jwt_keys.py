# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JWT signing keys: made on the controller, and what of them is published: the variables of ``.env``.

A key is a slot of the store: ``user`` is its id (``kid``), ``password`` the key itself: 64 hexadecimal digits, or a
private key (PKCS #8, PEM). Slots: ``current`` signs; ``next`` and ``previous`` are only verified with; ``spare`` stands
where the consumers expect a second key and there is none: nobody signs with it, and nobody knows it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import weakness
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import generate
from ansible_collections.chat4all.secrets.plugins.module_utils.jwt import SYMMETRIC

RSA_BITS = 3072
# RFC 7518, 3.3.
RSA_LEAST = 2048
SLOTS = ("current", "next", "previous", "spare")
# What ``.env`` may hold: the keys as they are, as a phase under way wants them, as one wanted them that was cut short.
STATES = ("current", "target", "dropped")


def has_keys(facts: Mapping[str, Any]) -> bool:
    """Tell whether a credential is a signing key, whose slots are published together."""
    return "key" in facts["variables"]


def state(entry: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """Return the slots that one of the states publishes; empty where there is none such."""
    found: Mapping[str, Any] = entry if label == "current" else entry.get(label) or {}
    return found if found.get("current") else {}


def make(algorithm: str) -> dict[str, str]:
    """Return a new key as a slot, without its dates."""
    if algorithm in SYMMETRIC:
        key = generate(kind="hex_key", length=64).value
        return {"user": f"k-{secrets.token_hex(4)}", "password": key, "algorithm": algorithm}
    return imported(_private_pem(algorithm), algorithm)


def imported(text: str, algorithm: str, document: str = "", kid: str = "") -> dict[str, str]:
    """Return a key that is in use already as a slot; raises for one that is not the algorithm's.

    Its id stays: the one in ``document``, the JWKS document that verifiers have, or ``kid``, with which signers sign.
    """
    if algorithm in SYMMETRIC:
        slot = {"user": f"k-{secrets.token_hex(4)}", "password": text, "algorithm": algorithm}
        return {**slot, **({"weak": weak} if (weak := weakness(text)) else {})}
    jwk = public_jwk(text, algorithm)
    known = _keys_of(document)
    ids = [key.get("kid") for key in known if _is(key, jwk)]
    if known and not ids:
        raise SecretsError("the JWKS document beside it lacks its public key; put that in, or empty the variable")
    slot = {"user": (ids and ids[0]) or kid or thumbprint(jwk), "password": text, "algorithm": algorithm}
    # Four characters are three bytes.
    bits = len(jwk.get("n", "")) * 6
    return {**slot, **({"weak": f"has less than {RSA_LEAST} bits"} if 0 < bits < RSA_LEAST else {})}


def others(text: str, algorithm: str, document: str) -> list[str]:
    """Return the ids of the keys that a JWKS document has beside that one; of them nothing else is known."""
    known = _keys_of(document)
    jwk = public_jwk(text, algorithm) if known else {}
    return [str(key.get("kid") or "unnamed") for key in known if not _is(key, jwk)]


def _keys_of(document: str) -> list[dict[str, Any]]:
    try:
        keys: list[dict[str, Any]] = [dict(key) for key in json.loads(document)["keys"]] if document else []
    except (ValueError, TypeError, KeyError):
        raise SecretsError("the JWKS document beside it is none; empty it, or mend it") from None
    return keys


def _is(key: Mapping[str, Any], jwk: Mapping[str, str]) -> bool:
    return all(key.get(part) == value for part, value in jwk.items())


def _private_pem(algorithm: str) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    makers = {
        "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }
    pem: bytes = makers[algorithm]().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


def public_jwk(pem: str, algorithm: str) -> dict[str, str]:
    """Return the public key of a private one as RFC 7517 and RFC 7518 write it, its required members alone."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    kinds = {
        "RS256": rsa.RSAPrivateKey,
        "ES256": ec.EllipticCurvePrivateKey,
        "EdDSA": ed25519.Ed25519PrivateKey,
    }
    try:
        private = serialization.load_pem_private_key(pem.encode(), None)
    except (TypeError, ValueError):
        private = None
    is_p256 = not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name == "secp256r1"
    if not isinstance(private, kinds.get(algorithm, ())) or not is_p256:
        raise SecretsError(f"the key in use is no private key for {algorithm} (PEM, without a passphrase)")
    public = private.public_key()
    if algorithm == "EdDSA":
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(raw)}
    numbers = public.public_numbers()
    if algorithm == "ES256":
        return {"kty": "EC", "crv": "P-256", "x": _number(numbers.x, 32), "y": _number(numbers.y, 32)}
    return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the thumbprint of a public key that has its required members alone (RFC 7638)."""
    text = json.dumps(dict(jwk), sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(text.encode()).digest())


def jwks(*slots: Mapping[str, str]) -> str:
    """Return the public keys of slots as one JWKS document (RFC 7517), the oldest first.

    So it stays the same, to the letter, when the next key becomes the current one.
    """
    keys = [
        {**public_jwk(slot["password"], slot["algorithm"]), "kid": slot["user"], "use": "sig", "alg": slot["algorithm"]}
        for slot in sorted(slots, key=lambda slot: (slot["created"], slot["user"]))
    ]
    return json.dumps({"keys": keys}, separators=(",", ":"))


def _number(number: int, size: int = 0) -> str:
    return _base64url(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def values(variables: Mapping[str, str], slots: Mapping[str, Any]) -> dict[str, str]:
    """Return what the variables of ``.env`` hold for these slots.

    A document that was imported stays as it is, to the letter, until a phase has other keys.
    """
    current = slots["current"]
    beside = [slots[label] for label in ("next", "previous") if slots.get(label)]
    found = {variables["key"]: current["password"]}
    if "jwks" in variables:
        found[variables["jwks"]] = slots.get("document") or jwks(current, *beside)
        if "kid" in variables:
            found[variables["kid"]] = current["user"]
    else:
        second = beside or [slots[label] for label in ("spare",) if slots.get(label)]
        if second:
            found[variables["secondary"]] = second[0]["password"]
    return found


def values_at(place: Mapping[str, Any], slots: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the variables that services of a host use: a private key is only where somebody signs."""
    used = {variable for part, variable in place["variables"].items() if place["used_by"][part]}
    found = values(place["variables"], slots)
    return {variable: value for variable, value in found.items() if variable in used}


def complete(place: Mapping[str, Any], slots: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of a host's variables; a second key that there is none of is empty."""
    secondary = place["variables"].get("secondary")
    empty = {secondary: ""} if secondary and place["used_by"]["secondary"] else {}
    return {**empty, **values_at(place, slots)}
