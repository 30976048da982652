# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

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


def _previous(offset: int | None, **more: str) -> dict:
    ends = {} if offset is None else {"revoke_after": (rotation.now() + datetime.timedelta(seconds=offset)).isoformat()}
    return {"previous": {"rotation": "r-old", **ends, **more}}


@pytest.mark.parametrize(
    ("entry", "phase"),
    [
        ({}, "new"),
        ({"pending": {"user": "a"}}, "forward"),
        ({"pending": {"direction": "back"}}, "back"),
        ({"pending": {"user": "a"}, **_previous(-5, revoked="now")}, "forward"),
        (_previous(3600), "grace"),
        (_previous(-5), "revoke_first"),
        (_previous(None), "revoke"),
        (_previous(None, revoked="now"), "new"),
        (_previous(3600, revoked="now"), "new"),
    ],
)
def test_the_store_tells_where_a_rotation_stands(entry, phase):
    assert rotation.phase_of(entry) == phase


def test_what_the_run_tried_itself_is_left_out_of_the_refused_logins(monkeypatch):
    opened = {"own_refusals": 1, "clock": {"wall": 100.7}, "facts": {}}
    one = rotation.Rotation(None, "app", {"opened": opened, "ended": {"own_refusals": 2}})
    monkeypatch.setattr(one, "entry", dict)
    monkeypatch.setattr(one, "credential_info", lambda _facts, _entry, **given: {"refused_logins": given})
    assert one._count_refused(tried=1) == {"refused_since": 100, "own_refusals": 4}
