# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The user stays, its password changes, and what that cost is said."""

from __future__ import annotations

import re


def test_it_is_the_older_server(deployment):
    assert deployment.sql("SHOW server_version").startswith("15.")


def test_the_user_stayed_and_the_password_changed(deployment):
    [(user, password)] = deployment.seen()
    assert deployment.login[0] == user
    assert deployment.login[1] != password
    assert deployment.log_in(*deployment.login) == f"{user} {user}"
    assert f'password authentication failed for user "{user}"' in deployment.log_in(user, password)


def test_env_and_store_agree(deployment):
    current = deployment.credential()["current"]
    assert (current["user"], current["password"]) == deployment.login


def test_every_consumer_is_healthy_on_the_new_value(deployment, consumers):
    assert len(consumers) == 3
    assert {container.health for container in consumers} == {"healthy"}
    assert {container.environment["SPRING_DATASOURCE_PASSWORD"] for container in consumers} == {deployment.login[1]}


def test_the_plan_announces_refused_logins(deployment):
    assert "logins ARE refused from 'set' until each service is replaced" in " ".join(
        deployment.printed("plan").split()
    )


def test_the_summary_says_how_many_logins_were_refused(deployment):
    [said] = re.findall(r"ROTATED  postgres .* refused logins (\d+)", deployment.output)
    # The services open connections all the time, so in place some are refused: a count of none would be a blind one.
    assert int(said) == deployment.logins().refused > 0


def test_up_recreates_nothing(deployment):
    assert deployment.up() == set()


def test_no_value_was_printed(deployment):
    assert deployment.leaks() == []
