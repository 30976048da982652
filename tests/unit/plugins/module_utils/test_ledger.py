# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.ledger import Head, Ledger

STEPS = [
    {"rotation": "r-1", "credential": "postgres", "step": step, "state": "done"} for step in ("create", "set", "test")
]


@pytest.fixture
def ledger(tmp_path):
    return Ledger(str(tmp_path))


@pytest.fixture
def head(ledger):
    """The end of a ledger of three records, appended in two goes."""
    ledger.append(STEPS[:1])
    return ledger.append(STEPS[1:])


def lines(ledger) -> list[bytes]:
    with open(ledger.path, "rb") as stream:
        return stream.read().splitlines(keepends=True)


def put(ledger, rows) -> None:
    with open(ledger.path, "wb") as stream:
        stream.write(b"".join(rows))


def test_records_are_numbered_dated_and_chained(ledger, head):
    rows = [json.loads(line) for line in lines(ledger)]
    assert [row["entry"] for row in rows] == [1, 2, 3]
    assert [row["step"] for row in rows] == ["create", "set", "test"]
    assert len({row["previous"] for row in rows}) == 3 and rows[0]["previous"] == "0" * 64
    assert all(row["at"].endswith("+00:00") for row in rows)
    assert ledger.verify(head) == (3, "") == ledger.verify()


def test_nobody_else_reads_it(ledger, head):
    assert stat.S_IMODE(os.stat(ledger.path).st_mode) == 0o600


def test_there_is_none_yet(ledger):
    assert ledger.verify() == (0, "")
    assert ledger.append([]) == Head() and not os.path.exists(ledger.path)


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_torn_last_line_is_no_record_and_the_next_one_takes_its_place(ledger, head, kept):
    whole = lines(ledger)
    put(ledger, [*whole[:2], whole[2][:kept]])
    assert ledger.verify() == (2, "")
    again = ledger.append(STEPS[2:])
    assert again.entries == 3 and ledger.verify(again) == (3, "")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda rows: [rows[0].replace(b"create", b"revoke"), *rows[1:]], "line 2 was changed"),
        (lambda rows: [rows[0], rows[2]], "line 2 was changed"),
        (lambda rows: [rows[0], rows[0], *rows[1:]], "line 2 was changed"),
        (lambda rows: [rows[1], rows[0], rows[2]], "line 1 was changed"),
        (lambda rows: [rows[0], b"nonsense\n", rows[2]], "line 2 was changed"),
        (lambda rows: [*rows[:2], rows[2].replace(b"test", b"open")], "line 3 was changed"),
        (lambda rows: rows[:2], "1 lines are missing"),
        (lambda rows: [], "3 lines are missing"),
    ],
)
def test_what_was_changed_is_seen(ledger, head, change, problem):
    put(ledger, change(lines(ledger)))
    assert problem in ledger.verify(head)[1]


def test_lines_missing_at_the_end_stay_visible_when_it_goes_on(ledger, head):
    put(ledger, lines(ledger)[:1])
    assert ledger.verify(ledger.append(STEPS[:1], head))[1]


def test_a_crash_between_ledger_and_state_is_no_damage(ledger, head):
    ledger.append(STEPS[:1])
    assert ledger.verify(head) == (4, "")


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_plain_file_is_refused(ledger, tmp_path, kind):
    if kind == "link":
        (tmp_path / "elsewhere").write_text("")
        os.symlink(tmp_path / "elsewhere", ledger.path)
    elif kind == "fifo":
        os.mkfifo(ledger.path)
    else:
        os.mkdir(ledger.path)
    with pytest.raises(SecretsError, match=r"ledger\.jsonl"):
        ledger.append(STEPS)


def test_a_full_disk_is_one_line_and_leaves_what_there_was(ledger, head, monkeypatch):
    before = lines(ledger)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SecretsError, match="cannot be written: No space left"):
        ledger.append(STEPS)
    assert lines(ledger) == before
