# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is shown of the figures, and what is read from a plan."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.chat4all.secrets.tests.benchmarks.report import (
    BEYOND_STARTUP,
    CONSUMERS,
    PLAIN,
    announced,
    arms_table,
    promised,
)

PLAN = """\
PLAN  postgres  chat4all-demo                                                nothing will be touched
  effect   no refused logins expected; 1 service with a gap: scheduler
  roll out
    1  migrate              job, run again                   exit code 0
    2  message-service x2   start-first                      health check
       user-service         start-first, then nginx -s reload health check
    3  scheduler            STOP-FIRST (container_name)      health check
  direct   api-gateway calls message-service by its name, without the proxy: some of these calls fail
           while it is replaced
  by hand  none      old value ends: same run, once no session uses it
"""


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (
            "message-service",
            "start-first; api-gateway calls message-service by its name, without the proxy: some of these calls fail "
            "while it is replaced",
        ),
        ("scheduler", "STOP-FIRST (container_name)"),
        ("migrate", "job, run again"),
        ("service", "not mentioned"),
    ],
)
def test_a_services_row_of_the_plan_is_found(service: str, said: str) -> None:
    assert announced(PLAN, service) == said


def test_the_table_shows_the_arms_side_by_side_within_100_columns() -> None:
    arms = {
        "seed_procedure": {"rotations": 2, "attempts": 1234, "longest_gap_s": 4.53},
        "single_user": {"rotations": 2, "attempts": 10},
        "alternating_users": {"rotations": 20, "attempts": 12345, "longest_gap_s": 0.2},
        "shell_start_first": {"rotations": 5, "attempts": 10},
        "plain_playbook": {"rotations": 5, "attempts": 10},
    }
    lines = arms_table(arms).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["rotations", "login", "longest"]
    assert lines[2].split()[2:] == ["1,234", "10", "12,345", "10", "10"]
    assert lines[3].split()[3:] == ["4.5", "-", "0.2", "-", "-"]
    assert max(map(len, lines)) <= 100


GOOD = {
    "refused_logins": 0,
    "http_failures": 0,
    "rotations": 20,
    "negative_probes": 20,
    "recreated_services": {"after_rotation": []},
}
FIGURES = {
    "arms": {
        "alternating_users": {**GOOD, "attempts": 10_000},
        "seed_procedure": {"rotations": 4, "refused_logins": 9},
    },
    "consumers": {"3": {**GOOD}, "12": {**GOOD}},
    "ratios": {BEYOND_STARTUP: 1.5, PLAIN: 1.01, CONSUMERS: 2.0},
}
BROKEN = [
    (("consumers", "3", "refused_logins"), 1),
    (("consumers", "12", "http_failures"), 1),
    (("consumers", "3", "recreated_services"), {"after_rotation": ["postgres"]}),
    (("consumers", "3", "negative_probes"), 19),
    (("arms", "alternating_users", "attempts"), 9_999),
    (("arms", "seed_procedure", "refused_logins"), 0),
    (("ratios", BEYOND_STARTUP), 1.51),
    (("ratios", PLAIN), 1.0),
    (("ratios", CONSUMERS), 2.01),
]


def test_good_figures_keep_every_promise() -> None:
    promises = promised(FIGURES, 20)
    assert all(kept for _text, kept in promises)
    assert len(promises) == 13


@pytest.mark.parametrize(("where", "value"), BROKEN)
def test_each_promise_can_be_broken_by_its_figure(where: tuple[str, ...], value: object) -> None:
    figures = copy.deepcopy(FIGURES)
    place = figures
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    assert [kept for _text, kept in promised(figures, 20)].count(False) == 1


def test_arms_that_were_not_measured_promise_nothing() -> None:
    assert promised({"arms": {}, "consumers": {}, "ratios": {PLAIN: None}}, 20) == []
