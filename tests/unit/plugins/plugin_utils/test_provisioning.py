# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.provisioning import (
    Provisioning,
    check_roles,
    login_found,
)
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import Rotation, phase_of, role_in

URL = "postgresql://app:o%2fld-password@db:5432/app?x=1"
FACTS = {
    "name": "app",
    "engine": "postgresql",
    "service": "db",
    "role": "app",
    "first_user": "first",
    "declared_role": "",
    "address": None,
    "type": "pair",
    "admin": "",
    "variables": {"uri": "DATABASE_URL"},
    "server_variables": [],
    "siblings": [],
    "has_data": True,
    "generate": {"kind": "password", "length": 32},
}
PLACE = {"host": "db1", "unused": [], "env": {"fingerprints": {}}}
BESIDE = {**FACTS, "variables": {"user": "U", "password": "P", "uri": "DATABASE_URL"}}


def provisioning(entry=None):
    deployment = SimpleNamespace(
        stored=lambda _name: entry or {},
        published=lambda _facts, _entry: "current",
        first_start=lambda _facts, _slot: {},
    )
    return Provisioning(deployment, {"drift": "refuse"})


def test_a_uri_is_imported_decoded_and_remembered_without_its_login():
    entry = provisioning().entry_for(FACTS, {"DATABASE_URL": URL})
    assert {key: entry["current"][key] for key in ("user", "password", "imported")} == {
        "user": "app",
        "password": "o/ld-password",
        "imported": True,
    }
    assert entry["current"]["spelling"] == {"DATABASE_URL": ["app", "o%2fld-password"]}
    assert entry["role"] == "app" and entry["uris"] == {"DATABASE_URL": "postgresql://user:password@db:5432/app?x=1"}


def test_what_somebody_has_changed_around_the_login_is_remembered_and_no_other_credential():
    before = provisioning().entry_for(FACTS, {"DATABASE_URL": URL})
    after = provisioning(before).entry_for(FACTS, {"DATABASE_URL": URL.replace("@db:5432", "@by-hand")})
    assert after["current"] == before["current"]
    assert after["uris"] == {"DATABASE_URL": "postgresql://user:password@by-hand/app?x=1"}
    assert provisioning(after).entry_for(FACTS, {}) == after


def test_a_placeholder_in_a_uri_is_replaced_where_there_is_no_data():
    found = {"DATABASE_URL": "postgresql://app:change_me@db/app"}
    assert provisioning().entry_for(FACTS, found)["current"]["password"] == "change_me"
    fresh = provisioning().entry_for({**FACTS, "has_data": False}, found)["current"]
    assert fresh["user"] == "app" and len(fresh["password"]) == 32
    with pytest.raises(SecretsError, match="has data already, but .env holds no DATABASE_URL"):
        provisioning().entry_for(FACTS, {})


@pytest.mark.parametrize(
    ("found", "login"),
    [
        ({}, ("", "")),
        ({"DATABASE_URL": URL}, ("app", "o/ld-password")),
        ({"U": "app", "P": "o/ld-password", "DATABASE_URL": URL}, ("app", "o/ld-password")),
        ({"P": "o/ld-password", "DATABASE_URL": URL}, ("app", "o/ld-password")),
        ({"U": "app", "P": "x"}, ("app", "x")),
    ],
)
def test_the_login_is_found_wherever_it_stands(found, login):
    assert login_found(BESIDE, found) == login


@pytest.mark.parametrize(("more", "what"), [({"P": "other"}, "P and DATABASE_URL.*passwords"), ({"U": "x"}, "users")])
def test_variables_that_contradict_one_another_are_refused_without_their_values(more, what):
    with pytest.raises(SecretsError, match=f"^app: .*{what}") as error:
        login_found(BESIDE, {"DATABASE_URL": URL, **more})
    assert "other" not in error.value.message.replace("another", "") and "ld-pass" not in error.value.message


def test_every_variable_holds_the_login_where_a_slot_is_published():
    slot = {"user": "app_1", "password": "a/b"}
    assert Deployment.slot_values(BESIDE, slot) == {"U": "app_1", "P": "a/b", "DATABASE_URL": "//app_1:a%2Fb@"}
    known, typed = {"uris": {"DATABASE_URL": "x"}}, {"spelling": {"DATABASE_URL": ["a", "b"]}}
    found = Deployment.uris(BESIDE, known, typed, PLACE)
    assert found == {"DATABASE_URL": {"template": "x", "spelling": ["a", "b"]}}
    assert Deployment.uris(BESIDE, {}, slot, PLACE) == {"DATABASE_URL": {"template": None, "spelling": None}}


@pytest.mark.parametrize("role", ["app", "app_1", "app_2", "app_admin"])
def test_two_credentials_of_one_server_have_logins_of_their_own(role):
    credentials = {"app": {**FACTS, "siblings": ["b"]}, "b": {**FACTS, "name": "b", "siblings": ["app"]}}
    with pytest.raises(SecretsError, match=rf"^secrets_catalog\.b\.role: {role} is a login of app already"):
        check_roles(credentials, {"app": {"role": "app"}, "b": {"role": role}})
    check_roles(credentials, {"app": {"role": "app"}, "b": {"role": "app_3"}})
    alone = {name: {**facts, "siblings": []} for name, facts in credentials.items()}
    check_roles(alone, {"app": {"role": "app"}, "b": {"role": role}})


def test_a_server_has_one_administrator_whichever_credential_has_made_it():
    first = {"role": "first", "current": {"user": "first", "password": "1"}}
    mine = {"role": "app", "current": {"user": "app", "password": "2"}}
    entries = {"first": first, "app": mine}
    rotation = Rotation(SimpleNamespace(stored=lambda name: entries.get(name, {})), "app", {})
    facts = {**FACTS, "siblings": ["first", "lost"]}
    assert rotation._administrator(facts, mine) is None
    assert rotation._first_login(facts, mine) == {"user": "first", "password": "1"}
    assert rotation._first_login(FACTS, mine) == {"user": "app", "password": "2"}
    first["admin"] = {"user": "first_admin", "password": "3"}
    assert rotation._administrator(facts, mine) == first["admin"]
    assert rotation._administrator({**facts, "address": {"host": "x"}}, mine) is None
    mine["admin"] = {"user": "app_admin", "password": "4"}
    assert rotation._administrator(facts, mine) == mine["admin"]


def test_what_no_service_uses_is_kept_in_step_where_it_is_and_not_put_there():
    task = SimpleNamespace(_task=SimpleNamespace(check_mode=False))
    deployment, slot = Deployment(task, {"project_dir": "/x"}, {}), {"user": "a", "password": "b"}
    unused = {**PLACE, "unused": ["U", "P", "DATABASE_URL"]}
    facts = {**BESIDE, "host": "db1"}
    assert deployment.env_values(facts, {}, slot, unused) == {} and deployment.uris(facts, {}, slot, unused) == {}
    there = {**unused, "env": {"fingerprints": {"P": "x", "DATABASE_URL": "y"}}}
    assert deployment.env_values(facts, {}, slot, there) == {"P": "b", "DATABASE_URL": "//a:b@"}
    assert list(deployment.uris(facts, {}, slot, there)) == ["DATABASE_URL"]
    assert set(deployment.env_values(facts, {}, slot, PLACE)) == {"U", "P", "DATABASE_URL"}


def test_a_server_elsewhere_is_asked_as_its_administrator_who_is_not_in_a_rotation_meanwhile():
    root = {"role": "root", "current": {"user": "root", "password": "1", "created": "x"}}
    mine = {"role": "app", "current": {"user": "app", "password": "2"}}
    rotation = Rotation(SimpleNamespace(stored=lambda name: root if name == "root" else {}), "app", {})
    facts = {**FACTS, "address": {"host": "db", "port": 5432, "ca": "/ca"}, "admin": "root", "database": ""}
    assert rotation._server(facts, mine) == {
        "address": facts["address"],
        "owner": "app",
        "databases": ["postgres"],
        "admin": {"user": "root", "password": "1"},
    }
    own = rotation._server({**facts, "admin": "", "database": "app"}, mine)
    assert own["admin"] == mine["current"] and own["databases"] == ["app"]
    assert rotation._server({**facts, "admin": "lost"}, mine)["admin"] == mine["current"]
    root["pending"] = {"user": "root", "password": "3"}
    with pytest.raises(SecretsError, match="^root, the administrator of db, is in a rotation; finish it first: "):
        rotation._server(facts, mine)


BARE = {
    **{key: value for key, value in FACTS.items() if key != "variables"},
    "name": "smtp",
    "engine": "manual",
    "service": "",
    "role": "",
    "type": "person",
    "has_data": False,
    "variables": {"password": "SMTP_PASSWORD"},
}
HOOK = {
    **BARE,
    "name": "hook",
    "engine": "webhook",
    "type": "overlap",
    "generate": {"kind": "uuid4"},
    "variables": {"password": "HOOK"},
    "previous_variable": "HOOK_PREVIOUS",
}
STORED = {"role": "", "current": {"user": "", "password": "old", "created": "2026-01-01T00:00:00+00:00"}}


def accepting(entry, status="untested", reason=""):
    one = provisioning(entry)
    one.arguments = {"drift": "accept"}
    one.deployment.published = lambda _facts, _entry: None
    one.deployment.arguments = {
        "catalog": {"smtp": {"engine": "manual"}, "hook": {"engine": "webhook"}, "telegram": {}}
    }
    one.log_in = lambda *_arguments: {"status": status, "reason": reason}
    return one


def test_a_persons_old_value_waits_for_its_end_where_a_new_one_is_accepted():
    taken = accepting(STORED).entry_for(BARE, {"SMTP_PASSWORD": "new"}, accepting=True)
    assert taken["current"]["password"] == "new" and taken["previous"]["password"] == "old"
    assert phase_of(taken) == "revoke_first"
    waiting = {**STORED, "previous": {"user": "", "password": "older", "created": "x", "rotation": "r-1"}}
    kept = accepting(waiting).entry_for(BARE, {"SMTP_PASSWORD": "new"}, accepting=True)
    assert kept["previous"]["password"] == "older"
    ended = {**waiting, "previous": {**waiting["previous"], "revoked": "x"}}
    assert accepting(ended).entry_for(BARE, {"SMTP_PASSWORD": "new"}, accepting=True)["previous"]["password"] == "old"


@pytest.mark.parametrize("entry", [{}, STORED])
def test_the_secret_before_that_services_accept_beside_the_present_one_is_imported(entry):
    one = accepting(entry)
    taken = one.entry_for(HOOK, {"HOOK": "new", "HOOK_PREVIOUS": "before"}, accepting=True)
    assert (taken["current"]["password"], taken["previous"]["password"]) == ("new", "before")
    assert phase_of(taken) == "revoke_first" and taken["previous"]["imported"]
    for before in ("", "new"):
        assert "previous" not in one.entry_for(HOOK, {"HOOK": "new", "HOOK_PREVIOUS": before}, accepting=True)


def test_on_a_new_stack_a_webhooks_secret_is_generated_and_a_running_one_is_not_guessed():
    one = provisioning()
    assert len(one.entry_for(HOOK, {})["current"]["password"]) == 36
    for running in ({"has_data": True}, {"places": [{"in_use": False}, {"in_use": True}]}):
        with pytest.raises(
            SecretsError, match="^hook: its services run already, but .env holds no HOOK; put the value"
        ):
            one.entry_for({**HOOK, **running}, {})


def test_without_a_server_a_line_names_the_platform():
    facts = {**BARE, "name": "telegram", "engine": "telegram", "variables": {"password": "T"}}
    dead = accepting(STORED, "rejected", "it does not know the token")
    with pytest.raises(
        SecretsError, match="^telegram: Telegram does not accept .*; have a new one issued, and bring it"
    ):
        dead.entry_for(facts, {"T": "new"}, accepting=True)
    dead.arguments = {"drift": "replace"}
    with pytest.raises(
        SecretsError, match="^DRIFT telegram: Telegram rejects the store's value, so it is not put back"
    ):
        dead.entry_for(facts, {"T": "new"})


def test_the_role_is_the_user_that_any_hosts_env_has():
    facts = {**FACTS, "role": "first"}  # the server's own host has no user
    assert provisioning().entry_for(facts, {"DATABASE_URL": URL})["role"] == "app"
    elsewhere = {**BESIDE, "address": {"host": "x"}}
    with pytest.raises(SecretsError, match=r"^secrets_catalog\.app\.role: nobody knows it"):
        provisioning().entry_for(elsewhere, {"P": "old"})
    assert provisioning().entry_for({**elsewhere, "declared_role": "said"}, {"P": "old"})["role"] == "said"


@pytest.mark.parametrize(
    ("more", "role"),
    [
        ({}, "said"),
        ({"previous": {"user": "wrong"}}, "wrong"),
        ({"current": {"user": "wrong_1"}}, "wrong"),
        ({"pending": {"user": "wrong_2"}}, "wrong"),
    ],
)
def test_a_declared_role_stands_for_the_stores_until_the_first_rotation(more, role):
    facts, entry = {**FACTS, "declared_role": "said"}, {"role": "wrong", "current": {"user": "app"}, **more}
    assert role_in(facts, entry) == role == provisioning(entry).entry_for(facts, {})["role"]
    assert role_in({**facts, "declared_role": ""}, entry) == "wrong" and role_in(facts, {}) == "said"


@pytest.mark.parametrize(
    ("answer", "role"),
    [
        ({"status": "accepted", "databases": {"app": {"current_user": "app"}}}, "app"),
        ({"status": "accepted", "databases": {"app": {"current_user": "app_2"}}}, "app_2"),
        (SecretsError("owner: role app does not exist in db"), "app_2"),
    ],
)
def test_a_login_that_works_as_another_role_is_one_of_its_two(monkeypatch, answer, role):
    asked = []

    def log_in(_facts, entry):
        asked.append(entry["role"])
        if isinstance(answer, SecretsError):
            raise answer
        return answer

    one, found = provisioning(), {"DATABASE_URL": URL.replace("app:", "app_2:")}
    monkeypatch.setattr(one, "log_in", log_in)
    assert one.entry_for(FACTS, found)["role"] == role and asked == ["app"]
    assert one.entry_for({**FACTS, "declared_role": "app_2"}, found)["role"] == "app_2" and asked == ["app"]


@pytest.mark.parametrize("status", ["unknown", "rejected"])
def test_a_login_that_may_be_one_of_two_is_not_imported_unasked(monkeypatch, status):
    one = provisioning()
    monkeypatch.setattr(one, "log_in", lambda *_given: {"status": status, "reason": "because"})
    with pytest.raises(SecretsError, match=r"app_2 may be one of two logins of app, .*\(because\); add role: app, or"):
        one.entry_for(FACTS, {"DATABASE_URL": URL.replace("app:", "app_2:")})


@pytest.mark.parametrize(("admin", "whose"), [("root", "root"), ("", "app")])
def test_a_changed_password_of_the_administrator_elsewhere_is_its_drift(admin, whose):
    def refuse(*_given, **_more):
        raise SecretsError(f"db:5432: the administrator does not get in (x: FATAL:  {reason})")

    root = {"role": "root", "current": {"user": "root", "password": "1"}}
    mine = {"role": "app", "current": {"user": "app", "password": "2"}}
    deployment = SimpleNamespace(
        stored=lambda name: root if name == "root" else {}, home=lambda _facts: SimpleNamespace(module=refuse)
    )
    facts = {**FACTS, "address": {"host": "db"}, "admin": admin, "database": "", "modules": "postgresql"}
    reason = 'password authentication failed for user "x"'
    with pytest.raises(SecretsError, match=f"^DRIFT {whose}: db rejects .* for {whose}, .*accept={whose}"):
        Rotation(deployment, "app", {}).log_in(facts, mine, "current")
    reason = "no pg_hba.conf entry"
    with pytest.raises(SecretsError, match="^db:5432: the administrator does not get in"):
        Rotation(deployment, "app", {}).log_in(facts, mine, "current")
