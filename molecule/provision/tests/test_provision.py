# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running stack is taken over: its values are imported, nothing is replaced."""

from __future__ import annotations


def test_the_value_in_use_was_imported(deployment):
    [(user, password)] = deployment.seen()
    assert deployment.login == (user, password)
    current = deployment.credential()["current"]
    assert (current["user"], current["password"]) == (user, password)


def test_env_and_store_are_for_their_owner_alone(deployment):
    for path in (deployment.directory / ".env", deployment.store_path):
        file = deployment.host.file(str(path))
        assert file.is_file
        assert file.mode == 0o600


def test_the_store_is_encrypted(deployment):
    assert deployment.store_path.read_text().startswith("$ANSIBLE_VAULT;")


def test_no_value_in_the_example(deployment):
    example = deployment.host.file(str(deployment.directory / ".env.example")).content_string
    assert "POSTGRES_PASSWORD=" in example
    assert all(value not in example for value in deployment.values())


def test_git_ignores_env(deployment):
    assert ".env" in deployment.host.file(str(deployment.directory / ".gitignore")).content_string.splitlines()


def test_no_container_was_replaced(deployment, consumers):
    assert len(consumers) == 3
    assert {container.id for container in deployment.containers()} == deployment.seen_containers(0)


def test_up_recreates_nothing(deployment):
    assert deployment.up() == set()


def test_no_value_was_printed(deployment):
    assert len(deployment.values()) >= 2
    assert "PLAY RECAP" in deployment.output
    assert deployment.leaks() == []
