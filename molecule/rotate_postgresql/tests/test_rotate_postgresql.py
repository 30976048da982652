# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After three rotations in a row nobody was refused, and nothing of the old values works or was printed."""

from __future__ import annotations

import pytest


def test_three_rotations_took_place(deployment):
    assert len(deployment.seen()) == 3
    assert len({*deployment.seen(), deployment.login}) == 4
    lines = [line for line in deployment.output.splitlines() if "ROTATED  postgres" in line]
    assert len(lines) >= 3


def test_env_store_and_server_agree(deployment):
    current = deployment.credential()["current"]
    assert (current["user"], current["password"]) == deployment.login
    assert deployment.credential().get("pending") is None
    # The role that owns everything stays the one that the services work as.
    assert deployment.log_in(*deployment.login) == f"chat4all {deployment.login[0]}"


@pytest.mark.parametrize("age", [0, 1, 2])
def test_an_old_value_is_refused_by_the_server(deployment, age):
    user, password = deployment.seen()[age]
    assert f'password authentication failed for user "{user}"' in deployment.log_in(user, password)


def test_the_two_users_alternate(deployment):
    users = [user for user, _password in (*deployment.seen(), deployment.login)]
    assert users[0] == "chat4all"
    assert users[1] == users[3] != users[2]
    assert "chat4all" not in users[1:]


def test_the_owner_has_stayed(deployment):
    assert deployment.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == "chat4all"


def test_every_consumer_is_healthy_on_the_new_value(deployment, consumers):
    assert len(consumers) == 3
    assert {container.health for container in consumers} == {"healthy"}
    logins = {
        (container.environment["SPRING_DATASOURCE_USERNAME"], container.environment["SPRING_DATASOURCE_PASSWORD"])
        for container in consumers
    }
    assert logins == {deployment.login}


def test_no_session_of_an_old_user_is_left(deployment):
    users = deployment.sql("SELECT DISTINCT usename FROM pg_stat_activity WHERE client_addr IS NOT NULL").split()
    assert users == [deployment.login[0]]


def test_no_login_was_refused(deployment):
    logins = deployment.logins()
    assert logins.attempts > 200
    assert (logins.refused, dict(logins.reasons)) == (0, {})
    # The ones that had to be refused: ours, from the server's own address.
    assert logins.negative_probes >= 3


def test_up_recreates_nothing(deployment):
    assert deployment.up() == set()


def test_no_value_was_printed(deployment):
    assert len(deployment.values()) >= 5
    assert deployment.output.count("PLAY RECAP") >= 2
    assert "EXEC" in deployment.output, "it was not verbose"
    assert deployment.leaks() == []
