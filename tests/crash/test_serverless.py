# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A part of ``make crash`` for signing keys, API tokens and webhooks, and that the check of their end can fail."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cases import CASES
from crash import Kill, Lane

# One of each kind: store, .env, container, platform; both ways of killing; each of the three phases.
SAMPLE = {
    "jwt_phases": [
        Kill("create controller: write .secrets-store.yml #1 after", "tree", "introduce"),
        Kill("roll_out compose_rollout: docker compose create #1 after", "tree", "promote"),
        Kill("publish env_file: write .env #1 after", "tree", "retire"),
    ],
    "whatsapp_token": [
        Kill("roll_out compose_rollout: docker start #1 before", "controller"),
        Kill("finish deployment_state: write state.json #1 after", "tree"),
    ],
    "telegram_webhook": [
        Kill("drain webhook_credential: POST setWebhook #1 after", "tree"),
        Kill("drain webhook_credential: POST setWebhook #1 before", "controller"),
        Kill("revoke compose_rollout: docker compose create #1 after", "tree"),
    ],
}


@pytest.fixture(scope="module")
def lanes():
    """A way to a case's lane, which runs until the last test that needs it: they come case by case."""
    running: dict[str, Lane] = {}

    def lane(case: str) -> Lane:
        if case not in running:
            close()
            running[case] = Lane(f"crash-test-{case.replace('_', '-')}", CASES[case])
            running[case].__enter__()
        return running[case]

    def close() -> None:
        while running:
            running.popitem()[1].__exit__()

    yield lane
    close()


@pytest.mark.parametrize(("case", "kill"), [(case, kill) for case, kills in SAMPLE.items() for kill in kills])
def test_the_same_command_recovers_from_a_kill_and_nothing_is_rejected(lanes, case, kill):
    result = lanes(case).kill("point", kill)
    assert not result.missed
    assert result.problems == []
    assert result.reruns >= 1
    assert result.accepted > 0 and result.refused == 0


# -- the check can fail; on the stack of the last ones


@pytest.fixture
def deployment(lanes):
    return lanes("telegram_webhook").deployment


def problem(deployment) -> str:
    """Return the one problem that the check names."""
    [found] = deployment.check().problems
    return found


@contextmanager
def changed(path: Path, content: bytes):
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def test_a_value_left_in_the_store_is_seen(deployment):
    plays = deployment.plays
    store = plays.store()
    store["secrets_credentials"]["telegram-webhook"]["pending"] = {"user": "", "password": "x"}
    with changed(plays.store_path, plays.vault(json.dumps(store))):
        assert "unfinished in the store: pending" in problem(deployment)
    assert deployment.check().problems == []


@pytest.mark.parametrize("variable", ["TELEGRAM_WEBHOOK_SECRET", "TELEGRAM_WEBHOOK_SECRET_PREVIOUS"])
def test_another_value_in_env_or_in_a_container_is_seen(deployment, variable):
    path = deployment.stack.directory / ".env"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{variable}=")]
    with changed(path, "\n".join([*lines, f"{variable}=left", ""]).encode()):
        assert f".env and store disagree: {variable}" in problem(deployment)
        deployment.stack.compose("up", "--detach", "--wait")
    try:
        assert f"telegram-connector was not given what is stored: {variable}" in problem(deployment)
    finally:
        deployment.stack.compose("up", "--detach", "--wait")
    assert deployment.check().problems == []


def test_another_secret_at_the_platform_is_seen(deployment):
    deployment.pretend("wrong")
    try:
        assert "telegram has another secret than the store" in problem(deployment)
    finally:
        deployment.pretend("")
    assert deployment.check().problems == []


def test_a_rejected_update_is_counted(deployment):
    assert deployment.control_is_seen()
