# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The next run succeeds as if nothing had happened."""

from __future__ import annotations


def test_it_rotated(deployment, consumers):
    [(user, password)] = deployment.seen()
    assert deployment.login[1] != password
    assert deployment.log_in(*deployment.login) == f"chat4all {deployment.login[0]}"
    assert f'password authentication failed for user "{user}"' in deployment.log_in(user, password)
    assert {container.environment["SPRING_DATASOURCE_PASSWORD"] for container in consumers} == {deployment.login[1]}
    assert {container.health for container in consumers} == {"healthy"}


def test_env_and_store_agree(deployment):
    current = deployment.credential()["current"]
    assert (current["user"], current["password"]) == deployment.login
    assert deployment.credential().get("pending") is None


def test_no_login_was_refused(deployment):
    logins = deployment.logins()
    assert logins.attempts > 100
    assert (logins.refused, dict(logins.reasons)) == (0, {})


def test_up_recreates_nothing(deployment):
    assert deployment.up() == set()


def test_no_value_was_printed(deployment):
    assert deployment.leaks() == []
