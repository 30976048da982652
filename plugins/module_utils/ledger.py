# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger: what was done to a deployment's credentials, one JSON line a step, each chained to the one before.

A line holds ids, states, times and keyed fingerprints, whose key is in the store; never a value. ``previous`` is the
SHA-256 of the line before it, so that a line cannot be changed, taken out or put in without being seen. The state
remembers the last line, so that lines missing at the end are seen, too.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import (
    check_plain_file,
    heir,
    read_plain_file,
    sync_folder,
)

NAME = "ledger.jsonl"
START = "0" * 64


@dataclass(frozen=True)
class Head:
    """The last line: its number (0: there is none) and its hash."""

    entries: int = 0
    sha256: str = START


class Ledger:
    """The ledger in a deployment's state folder. Whoever appends holds the deployment's lock."""

    def __init__(self, state_dir: str) -> None:
        self.path = os.path.join(state_dir, NAME)

    def append(self, records: Sequence[dict[str, Any]], known: Head | None = None) -> Head:
        """Add records durably and return the new end; ``known`` is the end as the state remembers it.

        What an interrupted append has left of a line is dropped: nobody was told that it was written.
        Raises :class:`SecretsError` where the disk refuses; the ledger then ends as it did.
        """
        content = read_plain_file(self.path) or b""
        whole = content.rfind(b"\n") + 1
        head = _end(content[:whole])
        if known and known.entries > head.entries:
            # Goes on from what is known, so that what is missing stays visible.
            head = known
        at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        lines = b""
        for record in records:
            row = {"entry": head.entries + 1, "at": at, **record, "previous": head.sha256}
            line = json.dumps(row, ensure_ascii=True).encode()
            head = Head(head.entries + 1, hashlib.sha256(line).hexdigest())
            lines += line + b"\n"
        if lines:
            self._write(lines, whole, is_new=not content)
        return head

    def _write(self, lines: bytes, offset: int, is_new: bool) -> None:
        folder = os.path.dirname(self.path)
        check_plain_file(self.path)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "wb", buffering=0) as stream:
                if is_new:
                    os.fchmod(stream.fileno(), 0o600)
                    if os.geteuid() == 0:
                        os.fchown(stream.fileno(), *heir(folder))
                stream.truncate(offset)
                stream.seek(offset)
                try:
                    if stream.write(lines) != len(lines):
                        raise OSError(28, "No space left on device")
                    os.fsync(stream.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        stream.truncate(offset)
                    raise
            if is_new:
                sync_folder(folder)
        except OSError as error:
            raise SecretsError(f"{self.path}: cannot be written: {error.strerror}") from None

    def verify(self, known: Head | None = None) -> tuple[int, str]:
        """Return how many whole lines there are, and what is wrong with the first bad one; empty where nothing is."""
        content = read_plain_file(self.path) or b""
        head = Head()
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            row = _row(line)
            if row is None or row.get("entry") != number or row.get("previous") != head.sha256:
                return head.entries, f"line {number} was changed, or one before it is missing"
            head = Head(number, hashlib.sha256(line).hexdigest())
            if known and known.entries == number and known.sha256 != head.sha256:
                return head.entries, f"line {number} was changed"
        if known and known.entries > head.entries:
            return head.entries, f"{known.entries - head.entries} lines are missing at its end"
        return head.entries, ""


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _end(content: bytes) -> Head:
    """Return the end of whole lines, by the last of them alone: to append needs no more."""
    last = content[content[:-1].rfind(b"\n") + 1 : -1] if content else b""
    row = _row(last) if last else None
    if row is None or not isinstance(row.get("entry"), int):
        return Head(content.count(b"\n"), hashlib.sha256(last).hexdigest()) if content else Head()
    return Head(row["entry"], hashlib.sha256(last).hexdigest())
