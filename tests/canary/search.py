# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find values, whole or in part and in every encoding, in large amounts of bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import encoded_forms
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import unseal

# A value's form is found by any piece of this many characters; pieces as short as this occur by accident nowhere.
PIECE = 12
VERIFIER = re.compile(rb"SCRAM-SHA-256\$\d+:")
KEY = re.compile(rb"(?<![0-9a-fA-F])[0-9a-f]{64}(?![0-9a-fA-F])")
SEALED = re.compile(rb'sealed\\*": *\\*"([A-Za-z0-9+/]+={0,2})')


@dataclass
class Needles:
    """Values to look for, each with a label by which it may be called in a report."""

    labels: dict[str, str] = field(default_factory=dict)
    _pieces: dict[bytes, str] = field(default_factory=dict)
    _short: dict[bytes, str] = field(default_factory=dict)

    def add(self, label: str, value: str) -> None:
        if not value or value in self.labels:
            return
        self.labels[value] = label
        for form in encoded_forms(value):
            raw = form.encode("utf-8", "surrogateescape")
            if len(raw) < 2 * PIECE - 1:
                self._short[raw] = label
            for start in range(len(raw) - PIECE + 1):
                self._pieces.setdefault(raw[start : start + PIECE], label)

    def found(self, data: bytes) -> Iterator[tuple[str, int]]:
        """Yield label and place of what occurs in ``data``: every run of 23 characters of a form, and short forms."""
        # Such a run holds one piece that begins at a multiple of its length.
        pieces = self._pieces
        for place in range(0, len(data) - PIECE + 1, PIECE):
            label = pieces.get(data[place : place + PIECE])
            if label:
                yield label, place
        for raw, label in self._short.items():
            place = data.find(raw)
            if place >= 0:
                yield label, place
        for match in VERIFIER.finditer(data):
            yield "a verifier of some password", match.start()


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
