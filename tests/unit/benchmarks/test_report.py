# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is shown of the figures, and what is read from a plan."""

from __future__ import annotations

import pytest
from ansible_collections.chat4all.secrets.tests.benchmarks.report import announced, arms_table

PLAN = """\
PLAN  postgres  chat4all-demo                                                nothing will be touched
  effect   no refused logins expected; 1 service with a gap: scheduler
  roll out
    1  migrate              job, run again                   exit code 0
    2  message-service x2   start-first                      health check
       user-service         start-first, then nginx -s reload health check
    3  scheduler            STOP-FIRST (container_name)      health check
"""


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("message-service", "start-first"),
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
