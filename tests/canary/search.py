# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find values, whole or in part and in every encoding, in large amounts of bytes."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import encoded_forms
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import unseal
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

# A value's form is looked for by pieces of this many characters, and found where so many characters in a row are its own:
# of these, one piece begins at a multiple of its length. Less may be an accident: a vaulted file is made of few characters.
PIECE = 12
RUN = 2 * PIECE - 1
VERIFIER = re.compile(rb"SCRAM-SHA-256\$\d+:")
KEY = re.compile(rb"(?<![0-9a-fA-F])[0-9a-f]{64}(?![0-9a-fA-F])")
SEALED = re.compile(rb'sealed\\*": *\\*"([A-Za-z0-9+/]+={0,2})')


@dataclass
class Needles:
    """Values to look for, each with a label by which it may be called in a report."""

    labels: dict[str, str] = field(default_factory=dict)
    # By a piece: the label, the form, and where in it the piece begins.
    _pieces: dict[bytes, list[tuple[str, bytes, int]]] = field(default_factory=dict)
    _short: dict[bytes, str] = field(default_factory=dict)

    def add(self, label: str, value: str) -> None:
        """Learn a value. Of a private key (PEM) all that keys of its kind do not have in common, and its numbers."""
        if value.startswith("-----BEGIN"):
            for part in _private_parts(value):
                self.add(label, part)
            return
        if not value or value in self.labels:
            return
        self.labels[value] = label
        for form in encoded_forms(value):
            raw = form.encode("utf-8", "surrogateescape")
            if len(raw) < RUN:
                self._short[raw] = label
                continue
            for start in range(len(raw) - PIECE + 1):
                self._pieces.setdefault(raw[start : start + PIECE], []).append((label, raw, start))

    def found(self, data: bytes) -> Iterator[tuple[str, int]]:
        """Yield label and place of what occurs in ``data``: every run of 23 characters of a form, and short forms."""
        pieces = self._pieces
        for place in range(0, len(data) - PIECE + 1, PIECE):
            for label, form, start in pieces.get(data[place : place + PIECE], ()):
                if _in_common(data, place, form, start) >= RUN:
                    yield label, place
        for raw, label in self._short.items():
            place = data.find(raw)
            if place >= 0:
                yield label, place
        for match in VERIFIER.finditer(data):
            yield "a verifier of some password", match.start()


def _in_common(data: bytes, place: int, form: bytes, start: int) -> int:
    """Return how many characters in a row two texts have in common around these two places."""
    before = after = 0
    while before < min(place, start) and data[place - before - 1] == form[start - before - 1]:
        before += 1
    while after < min(len(data) - place, len(form) - start) and data[place + after] == form[start + after]:
        after += 1
    return before + after


def _private_parts(pem: str) -> Iterator[str]:
    """Yield a private key's lines, together and one by one, and its number as a JWK has it, in hexadecimal, and in decimal."""
    private = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise TypeError("only keys of elliptic curves are known here")
    number = private.private_numbers().private_value
    raw = number.to_bytes((private.key_size + 7) // 8, "big")
    yield base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    yield raw.hex()
    yield str(number)
    _begin, *lines, _end = pem.splitlines()
    text = "".join(lines)
    # What comes before the number says of what kind the key is.
    begin = (8 * base64.b64decode(text).index(raw) + 5) // 6
    lines[0] = lines[0][begin:]
    yield text[begin:]
    yield "\n".join(lines)
    yield from lines


class Channel:
    """What was seen in one place where a value could show: by source, each content once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.contents: list[tuple[str, bytes]] = []
        self._known: set[bytes] = set()

    def add(self, source: str, data: bytes | str) -> None:
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        digest = hashlib.sha256(raw).digest()
        if raw and digest not in self._known:
            self._known.add(digest)
            self.contents.append((source, raw))

    @property
    def size(self) -> int:
        return sum(len(data) for _source, data in self.contents)

    def search(self, needles: Needles) -> dict[tuple[str, str], int]:
        """Return where what was found first: (label, source) -> place."""
        found: dict[tuple[str, str], int] = {}
        for source, data in self.contents:
            for label, place in needles.found(data):
                found.setdefault((label, source), place)
        return found


def unsealed(channels: list[Channel]) -> list[str]:
    """Return in which channels the key lies to a value that a module sealed, and that is in one of them, too."""
    keys = {
        match: channel.name for channel in channels for _source, data in channel.contents for match in KEY.findall(data)
    }
    sealed = {match for channel in channels for _source, data in channel.contents for match in SEALED.findall(data)}
    opened = []
    for key, name in keys.items():
        for text in sealed:
            try:
                unseal(bytes.fromhex(key.decode()), text.decode())
            except SecretsError:
                continue
            opened.append(name)
    return opened
