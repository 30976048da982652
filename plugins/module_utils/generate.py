# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generate secret values and their verifiers.

Values come from the operating system's generator, uniformly from all that satisfy the policy: a string is drawn
from the whole alphabet and thrown away when it lacks a required class. So the entropy is exact, not estimated.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
import stringprep
import unicodedata
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

LOWER = "abcdefghijklmnopqrstuvwxyz"
UPPER = LOWER.upper()
DIGITS = "0123456789"
# With letters and digits the unreserved characters of RFC 3986: the same in a URI, in .env, in JDBC and in YAML.
SYMBOLS = "-._~"

MAX_LENGTH = 1024
MIN_ENTROPY = 128.0
UUID4_BITS = 122.0
BCRYPT_MAX_BYTES = 72

VERIFIER = re.compile(r"SCRAM-SHA-256\$([1-9]\d{0,8}):([A-Za-z0-9+/]+=*)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")

# What a rule may say: the arguments of policy().
RULE_KEYS = ("kind", "length", "min_classes", "min_entropy", "forbidden")

HASHES = ("scram_sha_256", "bcrypt", "sha512_crypt")


@dataclass(frozen=True)
class Kind:
    """The alphabet of one kind, by class, and its defaults."""

    classes: tuple[str, ...]
    length: int
    min_classes: int


KINDS = {
    "password": Kind((LOWER, UPPER, DIGITS, SYMBOLS), 32, 4),
    "hex_key": Kind(("abcdef", DIGITS), 64, 1),
    "uuid4": Kind(("abcdef", DIGITS), 36, 1),
    "token": Kind((LOWER, UPPER, DIGITS), 64, 3),
}


@dataclass(frozen=True)
class Generated:
    """A fresh value; ``entropy_bits`` is rounded down to two decimals."""

    value: str = field(repr=False)
    entropy_bits: float


@dataclass(frozen=True)
class Policy:
    """What a value must be, already known to be possible."""

    kind: str
    classes: tuple[str, ...]
    length: int
    min_classes: int
    entropy_bits: float

    def draw(self) -> Generated:
        """Return a fresh value."""
        if self.kind == "uuid4":
            return Generated(str(uuid.uuid4()), self.entropy_bits)
        alphabet = "".join(self.classes)
        while True:
            value = "".join(secrets.choice(alphabet) for _unused in range(self.length))
            if sum(not set(members).isdisjoint(value) for members in self.classes) >= self.min_classes:
                return Generated(value, self.entropy_bits)


def policy(
    kind: str = "password",
    length: int | None = None,
    min_classes: int | None = None,
    min_entropy: float | None = None,
    forbidden: str = "",
    **unknown: object,
) -> Policy:
    """Return the policy, or raise :class:`SecretsError` where no value can satisfy it. Generates nothing.

    ``None`` takes the default of the kind; ``min_entropy`` is 128 bits, and 122 for ``uuid4``. What people write into a
    catalog may be passed as it is: unknown keys and wrong types are refused, too.
    """
    if unknown:
        raise SecretsError(f"{min(unknown)}: no part of a generation rule; there are {', '.join(RULE_KEYS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SecretsError(f"kind: unknown {kind!r}; use {', '.join(KINDS)}")
    if not isinstance(forbidden, str):
        raise SecretsError("forbidden: must be a string of characters; put it in quotes")
    length, min_classes = _number("length", length), _number("min_classes", min_classes)
    min_entropy = _number("min_entropy", min_entropy, float)
    defaults = KINDS[kind]
    if kind == "uuid4":
        for name, given in (("length", length), ("min_classes", min_classes), ("forbidden", forbidden or None)):
            if given is not None:
                raise SecretsError(f"{name}: a uuid4 has a fixed form; leave {name} out or use kind token")
        if min_entropy is not None and min_entropy > UUID4_BITS:
            raise SecretsError(f"min_entropy: a uuid4 has {UUID4_BITS:g} bits, not {min_entropy:g}; use kind token")
        return Policy(kind, defaults.classes, defaults.length, defaults.min_classes, UUID4_BITS)

    length = defaults.length if length is None else length
    min_classes = defaults.min_classes if min_classes is None else min_classes
    min_entropy = MIN_ENTROPY if min_entropy is None else min_entropy
    if not 1 <= length <= MAX_LENGTH:
        raise SecretsError(f"length: must be 1 to {MAX_LENGTH}, not {length}")
    if kind == "hex_key" and length % 2:
        raise SecretsError(f"length: {length} hexadecimal digits are no whole bytes; use {length + 1}")
    if min_classes < 1:
        raise SecretsError(f"min_classes: must be 1 or more, not {min_classes}")
    kept = ("".join(char for char in members if char not in forbidden) for members in defaults.classes)
    classes = tuple(members for members in kept if members)
    if not classes:
        raise SecretsError(f"forbidden: leaves no character for a {kind}; forbid fewer")
    if min_classes > len(classes):
        raise SecretsError(
            f"min_classes: {min_classes} wanted, a {kind} has {len(classes)}"
            f"{' after the forbidden ones' if forbidden else ''}; ask for fewer classes"
        )
    if length < min_classes:
        raise SecretsError(f"length: {length} characters cannot hold {min_classes} classes; use {min_classes} or more")
    bits = entropy(classes, length, min_classes)
    if bits < min_entropy:
        raise SecretsError(
            f"min_entropy: a {kind} of {length} characters has {bits:g} bits, not {min_entropy:g}; "
            + _enough(classes, min_classes, min_entropy, 2 if kind == "hex_key" else 1)
        )
    return Policy(kind, classes, length, min_classes, bits)


def generate(kind: str = "password", **rule: Any) -> Generated:
    """Return a fresh value that satisfies the policy; the arguments are those of :func:`policy`."""
    return policy(kind, **rule).draw()


def entropy(classes: tuple[str, ...], length: int, min_classes: int) -> float:
    """Return log2 of the number of strings that hold characters of at least ``min_classes`` of the classes.

    Every one of them is equally probable. Rounded down to two decimals.
    """
    total = 0
    for wanted in range(min_classes, len(classes) + 1):
        for present in combinations(classes, wanted):
            total += _strings_with_every(present, length)
    return math.floor(math.log2(total) * 100) / 100


def _number(name: str, value: Any, kind: type[int] | type[float] = int) -> Any:
    """Return a number as such; a template may have made it text."""
    try:
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if not isinstance(value, (str, kind)) or isinstance(value, bool) or math.isnan(number := kind(value)):
            raise ValueError
    except ValueError:
        raise SecretsError(f"{name}: must be a number, not {value!r}") from None
    return number


def _strings_with_every(classes: tuple[str, ...], length: int) -> int:
    """Count the strings over exactly these classes in which none is missing (inclusion and exclusion)."""
    total = 0
    for size in range(len(classes) + 1):
        for some in combinations(classes, size):
            total += (-1) ** (len(classes) - size) * sum(map(len, some)) ** length
    return total


def _enough(classes: tuple[str, ...], min_classes: int, min_entropy: float, step: int) -> str:
    first = max(min_classes, step)
    for length in range(first + first % step, MAX_LENGTH + 1, step):
        if entropy(classes, length, min_classes) >= min_entropy:
            return f"use length {length} or more"
    return f"no length up to {MAX_LENGTH} reaches it; ask for less"


def scram_sha_256(password: str, salt: bytes | None = None, iterations: int = 4096) -> str:
    """Return the verifier that PostgreSQL stores instead of the password."""
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", _saslprep(password).encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def scram_matches(verifier: str | None, password: str) -> bool:
    """Tell whether ``verifier`` was made from ``password``; anything that is no SCRAM verifier does not match."""
    parts = VERIFIER.fullmatch(verifier or "")
    if not parts:
        return False
    try:
        salt = base64.b64decode(parts.group(2), validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(scram_sha_256(password, salt, int(parts.group(1))), parts.group())


def check_hashes(schemes: Iterable[str], length: int) -> None:
    """Refuse what :func:`password_hash` could not do for a value of ``length`` bytes."""
    for scheme in schemes:
        if scheme not in HASHES:
            raise SecretsError(f"hashes: unknown {scheme!r}; use {', '.join(HASHES)}")
        if scheme == "bcrypt" and length > BCRYPT_MAX_BYTES:
            raise SecretsError(
                f"hashes: bcrypt looks at {BCRYPT_MAX_BYTES} bytes and this value has {length}; "
                f"use a length up to {BCRYPT_MAX_BYTES}, or sha512_crypt"
            )
        if scheme != "scram_sha_256":
            _passlib(scheme)


def password_hash(scheme: str, value: str) -> str:
    """Return a salted hash of ``value``: ``scram_sha_256``, ``bcrypt`` or ``sha512_crypt``."""
    check_hashes([scheme], len(value.encode()))
    return scram_sha_256(value) if scheme == "scram_sha_256" else _passlib(scheme).hash(value)


def _passlib(scheme: str) -> Any:
    """Return passlib's hasher, known to work."""
    try:
        from passlib import hash as hashers

        hasher = getattr(hashers, scheme)
        usable = hasher.has_backend()
    except ImportError:
        raise SecretsError(
            f"hashes: {scheme} needs the Python package libpass (or passlib) where the module runs; install it"
        ) from None
    except (AttributeError, ValueError):
        # passlib 1.7.4 tries out bcrypt with a password longer than bcrypt 5 takes.
        raise SecretsError(
            f"hashes: the installed passlib cannot use the installed {scheme}; install libpass instead of passlib"
        ) from None
    if not usable:
        raise SecretsError(f"hashes: {scheme} needs the Python package {scheme} where the module runs; install it")
    return hasher


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _saslprep(password: str) -> str:
    """Prepare a password as PostgreSQL does: by RFC 4013, or not at all where that forbids a character."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in password
        if stringprep.in_table_c12(char) or not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if not prepared or any(table(char) for char in prepared for table in prohibited):
        return password
    right_to_left = [stringprep.in_table_d1(char) for char in prepared]
    left_to_right = any(map(stringprep.in_table_d2, prepared))
    if any(right_to_left) and (left_to_right or not (right_to_left[0] and right_to_left[-1])):
        return password
    return prepared
