# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must not be rotated now is refused in one line that says what to do, and nothing has been touched."""

from __future__ import annotations

import pytest

REASONS = {
    "unhealthy": ("user-service", "-e skip_service=user-service"),
    "literal": ("user-service", "${POSTGRES_USER:-chat4all}"),
    "drift": ("docker compose up -d would",),
}


@pytest.mark.parametrize("name", REASONS)
def test_one_line_says_why_and_what_to_do(deployment, name):
    printed = deployment.printed(name)
    assert "PLAY [" in printed
    assert "Traceback" not in printed
    assert [line for line in printed.splitlines() if all(word in line for word in REASONS[name])], printed


@pytest.mark.parametrize("name", REASONS)
def test_it_was_refused_before_create(deployment, name):
    assert not [line for line in deployment.printed(name).splitlines() if line[9:].startswith("db1   create")]


def test_no_container_was_touched(deployment, consumers):
    assert len(consumers) == 3
    assert {container.id for container in deployment.containers()} == deployment.seen_containers(0)
    assert {container.status for container in consumers} == {"running"}


def test_the_login_is_as_it_was(deployment):
    [(user, password)] = deployment.seen()
    assert deployment.login == (user, password)
    assert deployment.log_in(user, password) == f"{user} {user}"
    assert deployment.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'chat4all%' AND rolcanlogin") == "1"


def test_the_store_holds_nothing_new(deployment):
    assert deployment.credential().get("pending") is None
    current = deployment.credential()["current"]
    assert (current["user"], current["password"]) == deployment.login


def test_up_recreates_nothing(deployment):
    assert deployment.up() == set()


def test_no_value_was_printed(deployment):
    assert deployment.leaks() == []
