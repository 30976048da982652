# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store is on the target, encrypted, and the controller keeps none."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def store_folder(deployment):
    deployment.store_folder = deployment.directory


def test_the_store_is_on_the_target_alone(deployment):
    file = deployment.host.file(str(deployment.store_path))
    assert file.mode == 0o600
    assert file.content_string.startswith("$ANSIBLE_VAULT;")
    assert not (deployment.folder / ".secrets-store.yml").exists()


def test_it_holds_what_env_holds(deployment):
    current = deployment.credential()["current"]
    assert (current["user"], current["password"]) == deployment.login
    assert deployment.store()["secrets_store"]["serial"] > 1


def test_the_old_value_is_refused(deployment):
    [(user, password)] = deployment.seen()
    assert deployment.login[1] != password
    assert f'password authentication failed for user "{user}"' in deployment.log_in(user, password)


def test_every_consumer_is_on_the_new_value(deployment, consumers):
    assert len(consumers) == 3
    assert {container.environment["SPRING_DATASOURCE_PASSWORD"] for container in consumers} == {deployment.login[1]}


def test_nothing_of_it_is_left_in_clear(deployment):
    value = deployment.login[1]
    found = deployment.host.run("grep -rlF -e %s %s", value, str(deployment.directory)).stdout.split()
    assert found == [str(deployment.directory / ".env")]


def test_no_value_was_printed(deployment):
    assert deployment.leaks() == []
