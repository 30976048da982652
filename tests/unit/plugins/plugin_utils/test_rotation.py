# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.plugin_utils import rotation


def test_two_logins_alternate_beside_their_owner():
    user, seen = "app", []
    for _turn in range(4):
        user = rotation.next_user("app", user, "pair")
        seen.append(user)
    assert seen == ["app_1", "app_2", "app_1", "app_2"]


def test_a_single_user_stays():
    assert rotation.next_user("app", "app", "single_user") == "app"


def _previous(offset: int, rotation_id: str = "r-old") -> dict:
    when = rotation.now() + datetime.timedelta(seconds=offset)
    return {"previous": {"rotation": rotation_id, "revoke_after": when.isoformat()}}


@pytest.mark.parametrize(
    ("entry", "unfinished", "phase"),
    [
        ({}, None, "new"),
        ({"pending": {"user": "a"}}, None, "forward"),
        ({"pending": {"user": "a"}}, "r-x", "forward"),
        ({"pending": {"direction": "back"}}, "r-x", "back"),
        (_previous(3600), None, "grace"),
        (_previous(-5), None, "revoke_first"),
        (_previous(-5), "r-old", "revoke"),
        (_previous(-5), "r-other", "revoke_first"),
    ],
)
def test_the_store_tells_where_a_rotation_stands(entry, unfinished, phase):
    assert rotation.phase_of(entry, unfinished) == phase


class FakeDeployment:
    """What ``back`` asks of a deployment: its memory of one rotation, and a store."""

    host = "db1"
    store = SimpleNamespace(id="store", serial=7)

    def __init__(self, entry: dict) -> None:
        self.stored = entry
        self.actions: list[str] = []

    def entry(self, _name: str) -> dict:
        return self.stored

    def state(self, action: str, **_arguments: object) -> dict:
        self.actions.append(action)
        return {"record": {"step": "revoke", "reason": "the server is down"}}

    def show(self, lines: list[str], **_arguments: object) -> None:
        self.shown = lines


@pytest.mark.parametrize(("of", "released"), [("r-this", False), ("r-earlier", True)])
def test_a_failed_revoke_stays_unfinished_so_that_a_rerun_ends_the_old_value_alone(of, released):
    deployment = FakeDeployment({"current": {"user": "app_1"}, **_previous(-5, of)})
    done = rotation.Rotation(deployment, "postgres", {"opened": {"rotation": "r-this"}}).back()
    assert done["failed"] and any("ends the old value" in line for line in deployment.shown)
    assert ("release" in deployment.actions) is released
