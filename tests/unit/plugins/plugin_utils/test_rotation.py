# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import rotation
from ansible_collections.chat4all.secrets.plugins.plugin_utils.hosts import Unreachable


def test_two_logins_alternate_beside_their_owner():
    user, seen = "app", []
    for _turn in range(4):
        user = rotation.next_user("app", user, "pair")
        seen.append(user)
    assert seen == ["app_1", "app_2", "app_1", "app_2"]


def test_a_single_user_stays():
    assert rotation.next_user("app", "app", "single_user") == "app"


def _previous(offset: int | None, **more: object) -> dict:
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
        (_previous(None, waits_for=["a", "b"]), "waits"),
        (_previous(None, waits_for=["a", "b"], confirmed=["b"]), "waits"),
        (_previous(None, waits_for=["a", "b"], confirmed=["b", "a"]), "revoke_first"),
        (_previous(None, waits_for=["a"], revoked="now"), "new"),
        (_previous(3600, waits_for=["a"]), "grace"),
        (_previous(3600, waits_for=["a"], confirmed=["a"]), "grace"),
        (_previous(-5, waits_for=["a"]), "waits"),
    ],
)
def test_the_store_tells_where_a_rotation_stands(entry, phase):
    assert rotation.phase_of(entry) == phase


def test_what_the_run_tried_itself_is_left_out_of_the_refused_logins(monkeypatch):
    opened = {"own_refusals": 1, "clocks": {"db1": {"wall": 100.7}, "app1": {"wall": 90.0}}, "facts": {"host": "db1"}}
    one = rotation.Rotation(None, "app", {"opened": opened, "ended": {"own_refusals": 2}})
    monkeypatch.setattr(one, "entry", dict)
    monkeypatch.setattr(one, "credential_info", lambda _facts, _entry, **given: {"refused_logins": given})
    assert one._count_refused(tried=1) == {"refused_since": 100, "own_refusals": 4}


class Killed(Exception):
    pass


def separating(stored, target, calls, server_variables=("POSTGRES_PASSWORD", "POSTGRES_USER")):
    """A rotation at publish, over a target of two files; it is killed before the call number ``calls``."""
    done = []

    def module(name, **given):
        done.append(name)
        if len(done) > calls:
            raise Killed
        target["override"] = target["env"].copy()
        assert given["variables"] == {name: f"INIT_{name}" for name in server_variables}
        return {"changed": True, "path": "/srv/docker-compose.override.yml"}

    def publish(writes, **_given):
        done.append("publish")
        if len(done) > calls:
            raise Killed
        for _host, own in writes:
            target["env"].update(own["values"])
        return [{"changed": True}]

    def change(mutator):
        done.append("store")
        if len(done) > calls:
            raise Killed
        mutator(stored)

    deployment = rotation.Deployment.__new__(rotation.Deployment)
    deployment.arguments = {"project_dir": "/srv", "compose_files": [], "env_file": None, "catalog": {}}
    deployment.first = rotation.Host("db1", None, {}, deployment.arguments)
    deployment._hosts = [deployment.first]
    deployment.first.module, deployment.publish, deployment.line = module, publish, lambda *_text: None
    deployment.entry = lambda _name: stored["postgres"]
    deployment.holder = lambda rotation: {"rotation": rotation}
    deployment._store = SimpleNamespace(change=change, fingerprint=str, fingerprint_key=b"")
    variables = {"user": "POSTGRES_USER", "password": "POSTGRES_PASSWORD"}
    facts = {"service": "postgres", "variables": variables, "server_variables": list(server_variables)}
    facts |= {"host": "db1", "places": [{"host": "db1", "env_file": "/srv/.env", "consumers": ["app"]}]}
    opened = {"rotation": "r-1", "facts": facts}
    return rotation.Rotation(deployment, "postgres", {"opened": opened, "drift": "refuse"}), done


@pytest.mark.parametrize("calls", range(4))
def test_the_servers_values_are_apart_before_the_new_one_is_written_wherever_it_is_killed(calls):
    stored = {
        "postgres": {"current": {"user": "app", "password": "old"}, "pending": {"user": "app_1", "password": "new"}}
    }
    target = {"env": {"POSTGRES_PASSWORD": "old"}, "override": None}
    one, _done = separating(stored, target, calls)
    with pytest.raises(Killed):
        one.publish()
    assert target["env"]["POSTGRES_PASSWORD"] == "old"
    # What open finds then: the server's variables are shared until the override is there.
    one, done = separating(stored, target, 9, () if target["override"] else ("POSTGRES_PASSWORD", "POSTGRES_USER"))
    one.publish()
    assert done == (["publish"] if calls == 3 else ["store", "publish", "compose_pin", "publish"])
    init = {"INIT_POSTGRES_USER": "app", "INIT_POSTGRES_PASSWORD": "old"}
    assert stored["postgres"]["init"] == init
    assert target["override"] == {"POSTGRES_PASSWORD": "old", **init}
    assert target["env"] == {"POSTGRES_USER": "app_1", "POSTGRES_PASSWORD": "new", **init}


class Confirming:
    """A deployment whose store holds one entry; what is taken, released and changed is noted."""

    def __init__(self, **previous):
        self.check_mode, self.steps, self.stored = False, [], {"previous": {"rotation": "r-old", **previous}}
        self.take = lambda *_given, **_more: self.steps.append("take")
        self.release = lambda *_given, **more: self.steps.append(more["ledger"][0]["state"])
        self.line = lambda *_text: None

    def confirm(self, monkeypatch, *names):
        one = rotation.Rotation(self, "app", {"confirmed_by": list(names), "take_lock": None})
        monkeypatch.setattr(rotation.Rotation, "holder", {})
        monkeypatch.setattr(one, "entry", lambda: self.stored)
        monkeypatch.setattr(one, "change", lambda mutator: mutator(self.stored))
        return rotation.phase_of(one._confirm(self.stored))


def test_persons_confirm_one_after_the_other_under_the_lock(monkeypatch):
    one = Confirming(waits_for=["a", "b"])
    assert one.confirm(monkeypatch, "b") == "waits"
    assert one.confirm(monkeypatch, "b") == "waits"  # said before
    assert one.confirm(monkeypatch, "a") == "revoke_first"
    assert one.steps == ["take", "confirmed by b", "take", "confirmed by a"]
    assert one.stored["previous"]["confirmed"] == ["b", "a"]


def test_nobody_else_can_confirm(monkeypatch):
    one = Confirming(waits_for=["a", "b"])
    with pytest.raises(SecretsError, match="confirmed=c: app does not wait for that; it waits for a, b"):
        one.confirm(monkeypatch, "a", "c")
    assert one.steps == [] and "confirmed" not in one.stored["previous"]
    one.check_mode = True
    assert one.confirm(monkeypatch, "a", "b") == "revoke_first"
    assert one.steps == [] and "confirmed" not in one.stored["previous"]


@pytest.mark.parametrize(
    ("theirs", "shared"),
    [
        ({"role": "app"}, "app"),
        ({"role": "other", "current": {"user": "app_1"}}, "app_1"),
        ({"role": "other", "current": {"user": "other_1"}, "pending": {"user": "app_2"}}, "app_2"),
        ({"role": "other", "current": {"user": "other_1"}, "previous": {"user": "app"}}, "app"),
    ],
)
def test_a_login_is_not_taken_away_from_another_credential_of_the_server(theirs, shared):
    stored = {"app": {"role": "app", "current": {"user": "app_1"}}, "other": theirs, "lost": {}}
    one = rotation.Rotation(SimpleNamespace(stored=stored.get), "app", {})
    facts = {"role": "app", "strategy": "pair", "service": "db", "siblings": ["lost", "other"]}
    with pytest.raises(SecretsError, match=f"^app: {shared} is a login of other, too"):
        one._check_alone(facts, stored["app"])
    stored["other"] = {"role": "other", "current": {"user": "other_1"}}
    one._check_alone(facts, stored["app"])


def test_what_failed_on_another_host_is_remembered_where_one_is_lost(monkeypatch):
    shown, remembered = [], []
    error = Unreachable("app2", "no route")
    error.others = [SecretsError("app1: web did not come up", host="app1", service="web")]
    one = rotation.Rotation(SimpleNamespace(show=lambda lines, **_more: shown.extend(lines)), "app", {})
    one.opened = {"facts": {"strategy": "pair"}}
    monkeypatch.setattr(one, "remember", lambda step, failed: remembered.append((step, failed.message)))
    one.unreachable("roll_out", error)
    assert remembered == [("roll_out", "app1: web did not come up")]
    assert "app1/web may not work; the others: on the old or the new password" in " ".join(" ".join(shown).split())
    error.others = []
    one.unreachable("roll_out", error)
    assert len(remembered) == 1 and "may not work" not in " ".join(shown[len(shown) // 2 :])
