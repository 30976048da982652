# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A representative part of ``make crash``, and that its check of the end state can fail."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cases import CASES
from crash import Kill, Lane, Point
from deployment import START_FIRST
from outcome import Login

# One of each kind: store, server, .env, journal, container, lock; both ways of killing.
SAMPLE = [
    (r"create controller: write \.secrets-store\.yml #1 after", "tree"),
    (r"set postgresql_credential: docker exec psql #2 before", "controller"),
    (r"publish env_file: write \.env #1 after", "tree"),
    (r"roll_out container: api-gateway destroy #1 event", "tree"),
    (r"roll_out compose_rollout: docker compose create #2 after", "tree"),
    (r"roll_out compose_rollout: docker start #2 before", "controller"),
    (r"finish controller: write \.secrets-store\.yml #1 after", "tree"),
    (r"revoke postgresql_credential: docker exec psql #2 after", "tree"),
]


@pytest.fixture(scope="module")
def lane():
    with Lane("crash-test", CASES["alternating_users"]) as running:
        running.record()
        yield running


@pytest.fixture
def deployment(lane):
    return lane.deployment


def test_a_clean_rotation_comes_to_points_of_every_kind(lane):
    labels = [f"{point.label} {point.mode}" for point in lane.points]
    for what in (
        r"^create controller: write \.secrets-store\.yml",
        r"^publish env_file: write \.env ",
        r"write state\.json",
        r"write rollout\.json",
        r"docker exec psql",
        r"docker compose create",
        r"docker (start|stop|rm)",
        r"container: migrate start #1 event",
        r" controller$",
    ):
        assert [label for label in labels if re.search(what, label)], what
    assert len(labels) > 60
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize(("pattern", "mode"), SAMPLE)
def test_the_same_command_recovers_from_a_kill(lane, pattern, mode):
    [point] = [known for known in lane.points if known.mode == mode and re.fullmatch(pattern, known.label)]
    result = lane.kill("point", Kill(*point))
    assert not result.missed
    assert result.problems == []
    assert result.reruns >= 1
    assert (result.refused, result.reasons) == (0, {})


def test_the_first_rotation_recovers_from_a_kill():
    with Lane("crash-first", CASES["first_rotation"]) as lane:
        lane.record()
        for label in (
            "set postgresql_credential: docker exec psql #2 after",
            "publish compose_pin: write docker-compose.override.yml #1 after",
            "revoke postgresql_credential: docker exec psql #2 after",
        ):
            assert Point(label, "tree") in lane.points
            result = lane.kill("point", Kill(label, "tree"))
            assert (result.missed, result.problems, result.refused) == (False, [], 0)


# -- the check can fail


def problem(deployment) -> str:
    """Return the one problem that the check names."""
    [found] = deployment.check().problems
    return found


def test_a_stray_container_is_seen(deployment):
    deployment.stack.compose("create", "--no-recreate", "--scale", f"{START_FIRST}=2", START_FIRST)
    stray = deployment.stack.containers(START_FIRST, running=False)[-1]
    try:
        assert "stray or missing containers" in problem(deployment)
    finally:
        deployment.stack.docker("rm", "--force", stray)
    assert deployment.check().problems == []


def test_an_interim_name_is_seen(deployment):
    [container] = deployment.stack.containers(START_FIRST)
    deployment.stack.docker("rename", container, f"0123456789ab_{container}")
    try:
        assert "interim name" in problem(deployment)
    finally:
        deployment.stack.docker("rename", f"0123456789ab_{container}", container)
    assert deployment.check().problems == []


@pytest.mark.parametrize("slot", ["pending", "previous"])
def test_a_value_left_in_the_store_is_seen(deployment, slot):
    path = deployment.plays.store_path
    before = path.read_bytes()
    vault = VaultLib([("default", VaultSecret(deployment.plays.password_file.read_bytes().strip()))])
    store = yaml.safe_load(vault.decrypt(before))
    store["secrets_credentials"]["postgres"][slot] = {"user": "chat4all_1", "password": "x"}
    path.write_bytes(vault.encrypt(yaml.safe_dump(store).encode()))
    try:
        assert "unfinished in the store" in problem(deployment)
    finally:
        path.write_bytes(before)
    assert deployment.check().problems == []


@pytest.mark.parametrize(
    ("pattern", "to", "said"),
    [
        (r"(?m)^(POSTGRES_PASSWORD=).*$", r"\1wrong", ".env and store disagree"),
        (r"\Z", "POSTGRES_DB=another\n", "docker compose up would change"),
    ],
)
def test_a_changed_env_is_seen(deployment, pattern, to, said):
    path = deployment.stack.directory / ".env"
    before = path.read_text()
    path.write_text(re.sub(pattern, to, before))
    try:
        assert said in problem(deployment)
    finally:
        path.write_text(before)
    assert deployment.check().problems == []


def test_an_old_login_that_still_works_is_seen(deployment):
    deployment.stack.psql("CREATE ROLE once_admin LOGIN PASSWORD 'once-valid'")
    deployment.seen.add(Login("once_admin", "once-valid"))
    try:
        assert "once_admin, which shall be dead" in problem(deployment)
    finally:
        deployment.stack.psql("DROP ROLE once_admin")
        deployment.seen.discard(Login("once_admin", "once-valid"))
    assert deployment.check().problems == []


def test_a_held_lock_and_a_leftover_are_seen(deployment):
    folder = deployment.stack.directory / ".chat4all"
    state, leftover = folder / "state.json", folder / ".rollout.json.1.tmp"
    before = state.read_text()
    state.write_text(json.dumps({**json.loads(before), "lease": {"rotation": "r-0000"}}))
    try:
        assert "a lease is left: {'rotation': 'r-0000'}" in problem(deployment)
    finally:
        state.write_text(before)
    leftover.touch()
    try:
        assert "left in the target's memory: ['.rollout.json.1.tmp']" in problem(deployment)
    finally:
        leftover.unlink()
    assert deployment.check().problems == []


def test_a_refused_login_is_counted(deployment):
    assert deployment.control_is_seen()


def test_every_login_that_ever_was_is_dead_at_the_end(lane):
    assert len(lane.deployment.seen) > len(SAMPLE)
    assert lane.finish() == []
