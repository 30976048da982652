# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.plugin_utils.status import Status

FACTS = {"name": "app", "variables": {"user": "U", "password": "P", "uri": "URL"}}
ENTRY = {"current": {"user": "app_1", "password": "stored"}}


def drift(found: dict[str, str]) -> tuple[str, list[tuple[str, str]]]:
    """Return what is said of this ``.env``, and the logins that were tried."""
    tried = []

    def log_in(_facts, entry, *labels):
        tried.extend((entry[label]["user"], entry[label]["password"]) for label in labels)
        return {"logins": {"current": {"status": "rejected"}, "env": {"status": "accepted"}}}

    deployment = SimpleNamespace(values_found=lambda: ({}, {"app": found}))
    return Status(deployment)._drift(FACTS, ENTRY, SimpleNamespace(log_in=log_in)), tried


def test_the_login_that_a_uri_holds_is_tried():
    text, tried = drift({"URL": "postgresql://app_2:new@db/app"})
    assert text == "DRIFT: server rejects the store's value; accepts .env's -> adopt -e accept=app"
    assert tried == [("app_1", "stored"), ("app_2", "new")]
    assert drift({"P": "new"})[1] == [("app_1", "stored"), ("app_1", "new")]


def test_variables_that_contradict_one_another_are_drift():
    text, tried = drift({"P": "stored", "URL": "postgresql://app_1:new@db/app"})
    assert text.startswith("DRIFT: P and URL hold different passwords in .env") and tried == []


@pytest.mark.parametrize(("engine", "needs"), [("whatsapp", True), ("instagram", False)])
def test_an_old_token_that_runs_out_by_itself_makes_no_red_status(monkeypatch, engine, needs):
    monkeypatch.setattr(Status, "_now", lambda *_arguments: "fine")
    over = {"created": "2026-01-01T00:00:00+00:00", "revoke_after": "2026-03-01T00:00:00+00:00", "rotation": "r-1"}
    current = {"created": datetime.datetime.now(datetime.UTC).isoformat()}
    deployment = SimpleNamespace(stored=lambda _name: {"current": current, "previous": over})
    facts = {"name": engine, "engine": engine, "type": "person", "variables": {}, "interval": 45 * 86400}
    memory = {"records": [], "lock": None, "outcomes": {}}
    assert Status(deployment)._row(facts, memory, set())["needs"] is needs
