# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which points a clean rotation's trace has, and in which order they come."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from crash import Point, in_turn, points_of


def trace(*operations: str, name: str = "env_file", pid: int = 1) -> list[dict]:
    return [
        {"label": f"{operation} #1 {moment}", "what": ["publish", name, operation, moment], "pid": pid}
        for operation in operations
        for moment in ("before", "after")
    ]


def labels(rows: list[dict]) -> list[str]:
    return [point.label for point in points_of(rows, []) if point.mode == "tree"]


def test_of_two_writes_with_nothing_between_them_the_first_ones_end_is_the_second_ones_begin():
    written = ["write a #1 before", "write a #1 after", "append b #1 after"]
    assert labels(trace("write a", "append b")) == written
    another = trace("write a") + trace("append b", pid=2)
    assert labels(another) == [*written[:2], "append b #1 before", "append b #1 after"]
    # The engine goes on meanwhile.
    assert "docker stop #1 before" in labels(trace("docker start", "docker stop"))


def test_a_question_counts_once_and_a_change_each_time():
    asked = trace("GET me")
    again = [{**row, "label": row["label"].replace("#1", "#2")} for row in asked]
    assert labels([*asked, *again]) == ["GET me #1 before", "GET me #1 after"]
    posts = points_of(trace("GET me", "POST setWebhook"), [])
    assert [point.label for point in posts if point.mode == "controller"] == [
        "GET me #1 before",
        "POST setWebhook #1 before",
    ]


def test_the_turns_take_turns():
    points = [Point(label, "tree", turn) for turn, label in (("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"))]
    assert [point.label for point in in_turn(points)] == ["1", "3", "2", "4"]
