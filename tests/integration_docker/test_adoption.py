# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose files in the shapes that widely used applications document: every credential is found, nothing is invented.

``expected.yml`` beside each says what is there, written from the file by hand.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import survey, weakness
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli

APPLICATIONS = Path(__file__).resolve().parents[1] / "adoption"
NAMES = sorted(path.parent.name for path in APPLICATIONS.glob("*/expected.yml"))


@pytest.fixture
def look(tmp_path):
    """Look at a copy of an application's files."""

    def found(name: str, **replaced: tuple[str, str]):
        folder = tmp_path / name
        shutil.copytree(APPLICATIONS / name, folder)
        if (folder / "env").exists():  # a .env is not committed here
            (folder / "env").rename(folder / ".env")
        for file, (old, new) in replaced.items():
            path = folder / {"compose": "docker-compose.yml", "env": ".env"}[file]
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new))
        return survey(Project.load(DockerCli(), str(folder)))

    return found


def test_there_are_twelve_applications():
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", NAMES)
def test_all_credentials_are_found_with_their_consumers_and_nothing_is_invented(look, name):
    expected = yaml.safe_load((APPLICATIONS / name / "expected.yml").read_text())
    findings = look(name)
    found = {
        one.name: {
            "engine": one.engine,
            "place": one.password.place.kind if one.password else "none",
            **({"variable": one.password.label} if one.password else {}),
            "consumers": one.consumers,
        }
        for one in findings.found
    }
    assert found == expected["found"]
    assert {one.label: sorted(one.users) for one in findings.ask} == expected["ask"]
    for words in expected.get("warn", []):
        assert [line for line in findings.warn if words in line], findings.warn


@pytest.mark.parametrize("name", NAMES)
def test_no_value_is_in_what_is_shown(look, name):
    findings = look(name)
    secrets = [one.password for one in findings.found if one.password] + findings.ask
    shown = repr(findings)
    strong = [one for one in secrets if one.value and not weakness(one.value)]
    assert strong or name in ("gitea", "immich", "mattermost")
    assert [one.label for one in strong if one.value in shown] == []


def test_a_password_typed_into_one_of_the_consumers_is_named(look):
    findings = look(
        "authentik",
        compose=(
            "AUTHENTIK_POSTGRESQL__PASSWORD: ${PG_PASS}",
            "AUTHENTIK_POSTGRESQL__PASSWORD: Zk4mT8wQ2xR6vN9bL3cJ7hF5",
        ),
    )
    [database] = [one for one in findings.found if one.name == "postgresql"]
    assert database.consumers == ["server", "worker"]
    assert "server: the password is typed in -> use ${PG_PASS}" in findings.warn


def test_the_same_word_at_another_server_is_no_consumer(look):
    findings = look(
        "gitea", compose=("      - GITEA__database__HOST=db:5432\n", "      - GITEA__database__HOST=elsewhere:5432\n")
    )
    [database] = findings.found
    assert database.consumers == []
    assert [one.label for one in findings.ask] == ["GITEA__database__PASSWD"]
