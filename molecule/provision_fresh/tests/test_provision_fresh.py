# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A deployment that did not exist gets its values, and starts with them."""

from __future__ import annotations

import re
import time


def test_a_strong_value_was_made(deployment):
    assert re.fullmatch(r"[A-Za-z0-9._~-]{32,}", deployment.login[1])


def test_env_and_store_agree(deployment):
    current = deployment.credential()["current"]
    assert (current["user"], current["password"]) == deployment.login


def test_env_is_for_its_owner_alone(deployment):
    assert deployment.host.file(str(deployment.directory / ".env")).mode == 0o600


def test_foreign_lines_were_kept(deployment):
    assert deployment.env()["COMPOSE_PROJECT_NAME"] == deployment.project


def test_the_stack_runs_with_it(deployment, consumers):
    assert len(consumers) == 3
    assert {container.environment["SPRING_DATASOURCE_PASSWORD"] for container in consumers} == {deployment.login[1]}
    deadline = time.monotonic() + 60
    while {c.health for c in deployment.containers() if c.service.endswith("-service")} != {"healthy"}:
        assert time.monotonic() < deadline
        time.sleep(1)


def test_the_server_took_it(deployment):
    user, password = deployment.login
    assert deployment.log_in(user, password) == f"{user} {user}"
    assert "password authentication failed" in deployment.log_in(user, password + "x")


def test_up_recreates_nothing(deployment):
    assert deployment.up() == set()


def test_no_value_was_printed(deployment):
    assert "PLAY RECAP" in deployment.output
    assert deployment.leaks() == []
