# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import stat
from types import SimpleNamespace

import pytest
import yaml
from ansible.parsing.vault import VaultSecret
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import checked_catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import adopting, report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.adopting import DRAFT, Adoption, draft_of, together
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.store import Store


def server(name, engine="postgresql", **more):
    usual = {"place": "variable", "variable": "POSTGRES_PASSWORD", "user_variable": "POSTGRES_USER"}
    return {"name": name, "engine": engine, **usual, "unusual": False, "consumers": ["app"], **more}


FOUND = [
    server("postgres"),
    server("db", variable="DB_PASS", user_variable="DB_USER", unusual=True),
    server("legacy", variable="OLD_PASSWORD", user_variable=""),
    server("typed", place="literal"),
    server("redis", "redis", variable="REDIS_PASSWORD", user_variable=""),
    server("open", place="none", variable="", user_variable=""),
]
ASK = [
    {"variable": "SMTP_PASSWORD", "place": "variable", "file": "", "in_env": True, "services": ["mailer"]},
    {"variable": "SMTP_TOKEN", "place": "variable", "file": "", "in_env": True, "services": ["mailer"]},
    {"variable": "_KEY", "place": "variable", "file": "", "in_env": True, "services": ["mailer"]},
    {"variable": "API_KEY", "place": "literal", "file": "", "in_env": False, "services": ["mailer"]},
]


def test_the_draft_has_what_can_be_rotated_and_names_the_rest():
    catalog, text = draft_of(FOUND, ASK)
    assert catalog == {
        "postgres": {},
        "db": {"engine": "postgresql", "variables": {"user": "DB_USER", "password": "DB_PASS"}},
        "legacy": {"variables": {"password": "OLD_PASSWORD"}, "strategy": "single_user"},
        "smtp": {"engine": "manual", "variables": {"secret": "SMTP_PASSWORD"}},
        "smtp_token": {"engine": "manual", "variables": {"secret": "SMTP_TOKEN"}},
        "secret_key": {"engine": "manual", "variables": {"secret": "_KEY"}},
    }
    assert yaml.safe_load(text) == {"secrets_catalog": catalog}
    checked_catalog(catalog)
    assert [line for line in text.splitlines() if line.startswith("  #")] == [
        "  # typed: POSTGRES_PASSWORD: not in .env yet",
        "  # redis: REDIS_PASSWORD: redis cannot be rotated yet",
        "  # API_KEY (mailer): not in .env, or not by a variable",
    ]


def test_uris_are_drafted_alone_where_nobody_has_the_password_in_another_way():
    one = {"uris": ["DATABASE_URL"], "direct": False, "service": ""}
    found = [
        server("postgres", **one),
        server("db", place="literal", unusual=True, **{**one, "uris": ["A_URL", "B_URL"]}),
        server("reporting", **{**one, "service": "postgres"}),
        server("mixed", **{**one, "direct": True}),
    ]
    catalog, text = draft_of(found, [])
    both = {"user": "POSTGRES_USER", "password": "POSTGRES_PASSWORD", "uri": "DATABASE_URL"}
    assert catalog == {
        "postgres": {"variables": {"uri": "DATABASE_URL"}},
        "db": {"engine": "postgresql", "variables": {"uri": ["A_URL", "B_URL"]}},
        "reporting": {"service": "postgres", "variables": {"uri": "DATABASE_URL"}},
        "mixed": {"variables": both},
    }
    assert yaml.safe_load(text) == {"secrets_catalog": catalog}
    assert checked_catalog(catalog)["db"]["variables"] == {"uri": "A_URL", "uri_2": "B_URL"}


def test_a_draft_without_any_credential_is_a_catalog_too():
    assert yaml.safe_load(draft_of([], ASK[3:])[1]) == {"secrets_catalog": {}}


def adoption(tmp_path, check_mode=False):
    lines = []
    deployment = SimpleNamespace(
        task_vars={"inventory_dir": str(tmp_path)},
        check_mode=check_mode,
        line=lambda _step, text: lines.append(text),
        show=lines.extend,
    )
    return Adoption(deployment, {"draft": draft_of(FOUND, ASK)[1]}), lines


def test_the_draft_is_written_where_ansible_finds_it(tmp_path):
    one, lines = adoption(tmp_path)
    assert one.write() == {"changed": True}
    path = tmp_path / DRAFT
    assert yaml.safe_load(path.read_text())["secrets_catalog"]["postgres"] == {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 and os.listdir(path.parent) == [path.name]
    assert str(path) in lines[0]
    with pytest.raises(SecretsError, match="is there, but secrets_catalog is not set"):
        one.write()


def test_check_mode_writes_nothing(tmp_path):
    assert adoption(tmp_path, check_mode=True)[0].write() == {"changed": True}
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["all", "all.yml", "all.yaml", "all.json"])
def test_a_file_that_the_folder_would_hide_is_left_alone(tmp_path, name):
    path = tmp_path / "group_vars" / name
    path.parent.mkdir()
    path.write_text("{}")
    one, lines = adoption(tmp_path)
    with pytest.raises(SecretsError, match="a folder of that name would hide it; add the lines above"):
        one.write()
    assert "secrets_catalog:" in lines and os.listdir(path.parent) == [name]


def test_what_people_read():
    seen = {"found": FOUND[:2], "ask": [ASK[0], ASK[3]], "warn": ["x " * 60]}
    assert report.findings(seen, "db1") == [
        "FOUND  postgres  postgresql  db1  POSTGRES_USER + POSTGRES_PASSWORD  1 service",
        "FOUND  db        postgresql  db1  DB_USER + DB_PASS                  1 service",
        "ASK    SMTP_PASSWORD (mailer): no engine known -> written as engine: manual",
        "ASK    API_KEY (mailer), typed in: no engine known",
        "WARN   " + " ".join(["x"] * 47),
        "       " + " ".join(["x"] * 13),
    ]


def test_what_awx_needs_is_written_once_and_what_is_there_is_left_alone(tmp_path):
    inventory = tmp_path / "inventories" / "production"
    inventory.mkdir(parents=True)
    one, lines = adoption(inventory)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "rotate.yml").write_text("mine")
    assert one.wrap() == {"changed": True} and "collections/requirements.yml" in lines[0]
    assert (tmp_path / "playbooks" / "rotate.yml").read_text() == "mine"
    text = (tmp_path / "playbooks" / "rotate-db.yml").read_text()
    assert yaml.safe_load(text) == [{"ansible.builtin.import_playbook": "chat4all.secrets.rotate_db"}]
    assert yaml.safe_load((tmp_path / "collections" / "requirements.yml").read_text())["collections"]
    assert one.wrap() == {"changed": False}


def test_an_inventory_without_a_repository_gets_no_files_around_it(tmp_path):
    folder = tmp_path / "somewhere"
    folder.mkdir()
    assert adoption(folder)[0].wrap() == {"changed": False}
    assert os.listdir(tmp_path) == ["somewhere"]
    (tmp_path / ".git").mkdir()
    assert adoption(folder, check_mode=True)[0].wrap() == {"changed": True}
    assert sorted(os.listdir(tmp_path)) == [".git", "somewhere"]


def test_what_is_seen_on_several_hosts_is_one_deployment():
    password = {"variable": "POSTGRES_PASSWORD", "place": "variable", "file": "", "in_env": True, "services": ["app"]}
    smtp = ASK[0]
    seen = {"db1": {"found": [server("postgres")], "ask": [smtp]}, "app1": {"found": [], "ask": [password, smtp]}}
    found, ask = together(seen)
    assert [one["name"] for one in found] == ["postgres"] and ask == [{**smtp, "services": ["mailer", "mailer"]}]
    two = {host: {"found": [server("postgres")], "ask": []} for host in ("db1", "db2")}
    catalog, text = draft_of(*together(two))
    assert catalog == {
        "postgres_db1": {"host": "db1", "service": "postgres"},
        "postgres_db2": {"host": "db2", "service": "postgres"},
    }
    assert "  # postgres_db1 and postgres_db2 share POSTGRES_PASSWORD, and a variable holds one credential: " in text


def test_a_platforms_token_is_drafted_as_one():
    ask = [{**ASK[0], "variable": "TELEGRAM_BOT_TOKEN"}, {**ASK[0], "variable": "WHATSAPP_API_TOKEN", "in_env": False}]
    catalog, text = draft_of([], ask)
    assert catalog == {"telegram": {}} and "# WHATSAPP_API_TOKEN" in text
    seen = "\n".join(report.findings({"found": [], "ask": ask, "warn": []}, "db1"))
    assert "a token of telegram -> written as engine: telegram" in seen


SEED = (
    *("JWT_SIGNING_KEY", "JWT_SIGNING_KEY_SECONDARY", "TELEGRAM_BOT_TOKEN", "WHATSAPP_WEBHOOK_VERIFY_TOKEN"),
    *("TELEGRAM_WEBHOOK_SECRET", "TELEGRAM_WEBHOOK_SECRET_PREVIOUS", "INSTAGRAM_VERIFY_TOKEN"),
)


def test_signing_keys_and_webhooks_are_drafted_as_such_and_their_second_variables_are_theirs():
    ask = [{**ASK[0], "variable": name, "in_env": not name.endswith("PREVIOUS")} for name in SEED]
    catalog, text = draft_of([], ask)
    assert catalog == {"jwt": {}, "telegram": {}, "telegram-webhook": {}}
    assert set(checked_catalog(catalog)) == set(catalog) and yaml.safe_load(text) == {"secrets_catalog": catalog}
    # Without a variable for the secret before, an entry would stop every playbook.
    assert [line for line in text.splitlines() if line.startswith("  #")] == [
        f"  # {name}: engine: webhook: its services have to accept {name}_PREVIOUS beside it first: docs/tokens.md"
        for name in ("WHATSAPP_WEBHOOK_VERIFY_TOKEN", "INSTAGRAM_VERIFY_TOKEN")
    ]
    seen = " ".join("\n".join(report.findings({"found": [], "ask": ask, "warn": []}, "db1")).split())
    assert "JWT_SIGNING_KEY (mailer): a signing key -> written as engine: jwt" in seen
    assert "JWT_SIGNING_KEY_SECONDARY (mailer): goes with JWT_SIGNING_KEY" in seen
    assert "a webhook's secret -> written as engine: webhook" in seen
    # A service of that name is a server, and has the entry's name.
    assert "jwt" not in draft_of([server("jwt", "redis")], ask[:2])[0]


def test_a_variable_that_an_entry_has_by_default_is_not_offered_again():
    ask = [{**ASK[0], "variable": name} for name in (*SEED, "SMTP_PASSWORD", "NEW_TOKEN")]
    said = []
    host = SimpleNamespace(name="db1", project=dict, module=lambda _name: {"found": [], "ask": ask, "warn": []})
    deployment = SimpleNamespace(hosts=[host], show=lambda _lines: None, line=lambda _step, text: said.append(text))
    given = {
        "jwt": {},
        "bot": {"engine": "telegram"},
        "smtp": {"engine": "manual", "variables": {"key": "SMTP_PASSWORD"}},
        "hook": {"engine": "webhook", "platform": "telegram"},
        "postgres": None,
    }
    Adoption(deployment, {"catalog": given}).look()
    assert [text.partition(":")[0] for text in said] == ["new"]


def locked_out(tmp_path, status="accepted", env=None):
    """Adoption of a deployment whose store was made with another vault password; and what is said and done."""
    path = tmp_path / ".secrets-store.yml"
    old = Store.open(str(path), [("default", VaultSecret(b"lost"))])
    old.change(lambda credentials: credentials.update(postgres={"current": {"user": "app", "password": "then"}}))
    one = Deployment.__new__(Deployment)
    one.arguments = {"store": {"path": str(path)}, "catalog": {"postgres": {}}, "project_dir": "/srv"}
    one.action = SimpleNamespace(_loader=SimpleNamespace(_vault=SimpleNamespace(secrets=[("x", VaultSecret(b"new"))])))
    one.check_mode, one._store = False, None
    done = []
    one.require_discretion = lambda: None
    one.line = lambda _step, text: done.append(text)
    facts = {"name": "postgres", "engine": "postgresql", "role": "app", "service": "postgres", "has_data": True}
    facts |= {"variables": {"user": "DB_USER", "password": "DB_PASS"}, "server_variables": [], "siblings": []}
    facts |= {"first_user": "app", "declared_role": "", "address": None, "type": "pair"}
    found = {"DB_USER": "app_2", "DB_PASS": "now"} if env is None else env
    one.values_found = lambda: ({"credentials": {"postgres": facts}}, {"postgres": found})
    one.memory = lambda: {"records": [{"rotation": "r-1", "credential": "postgres"}]}
    one.take = lambda holder, **_given: done.append(f"take {holder['rotation']}")
    one.release = lambda holder, **_given: done.append(f"release {holder['rotation']}")
    adopting.Provisioning.log_in = lambda *_arguments: {"status": status, "reason": "because"}
    return Adoption(one, {}), path, done


@pytest.fixture
def kept_log_in(monkeypatch):
    monkeypatch.setattr(adopting.Provisioning, "log_in", None)


def test_a_store_that_nobody_can_open_is_kept_aside_and_a_new_one_has_what_env_has(tmp_path, kept_log_in):
    one, path, done = locked_out(tmp_path)
    old = path.read_bytes()
    assert one.reseal() == {"changed": True}
    new = Store.open(str(path), [("x", VaultSecret(b"new"))])
    assert {key: new.entry("postgres")["current"][key] for key in ("user", "password")} == {
        "user": "app_2",
        "password": "now",
    }
    [aside] = [name for name in os.listdir(tmp_path) if re.fullmatch(r"\.secrets-store\.yml\.\d{8}T\d{6}Z", name)]
    assert (tmp_path / aside).read_bytes() == old and stat.S_IMODE((tmp_path / aside).stat().st_mode) == 0o600
    calls = [text for text in done if text.startswith(("take", "release"))]
    assert calls == ["take r-1", "release r-1", "take provision", "release provision"]
    assert one.reseal() == {"changed": False}


@pytest.mark.parametrize(
    ("status", "env", "message"),
    [
        ("rejected", None, "holds no value that its server accepts; nothing was changed"),
        ("unknown", None, "postgres cannot be asked: because; nothing was changed"),
        ("accepted", {}, "holds no value that its server accepts; nothing was changed"),
    ],
)
def test_a_store_is_not_given_up_for_nothing(tmp_path, kept_log_in, status, env, message):
    one, path, done = locked_out(tmp_path, status, env)
    old, names = path.read_bytes(), sorted(os.listdir(tmp_path))
    with pytest.raises(SecretsError, match=message):
        one.reseal()
    assert path.read_bytes() == old and sorted(os.listdir(tmp_path)) == names
    assert not [text for text in done if text.startswith("take")]


def test_a_store_that_opens_is_left_alone(tmp_path, kept_log_in):
    one, path, _done = locked_out(tmp_path)
    one.deployment.action._loader._vault.secrets = [("default", VaultSecret(b"lost"))]
    before = path.read_bytes()
    assert one.reseal() == {"changed": False} and path.read_bytes() == before


def test_two_entries_of_one_login_are_not_imported(tmp_path, kept_log_in):
    one, path, _done = locked_out(tmp_path)
    info, found = one.deployment.values_found()
    mine = {**info["credentials"]["postgres"], "siblings": ["reporting"]}
    theirs = {**mine, "name": "reporting", "siblings": ["postgres"], "variables": {"uri": "URL"}}
    info = {"credentials": {"postgres": mine, "reporting": theirs}}
    found["reporting"] = {"URL": "postgresql://app:other@postgres/app"}
    one.deployment.values_found = lambda: (info, found)
    before = path.read_bytes()
    with pytest.raises(SecretsError, match=r"^secrets_catalog\.reporting\.role: app is a login of postgres already"):
        one.reseal()
    assert path.read_bytes() == before
    # One of them is in the store already.
    one.deployment._store = SimpleNamespace(names=lambda: ["postgres"], entry=lambda _name: {"role": "app"})
    with pytest.raises(SecretsError, match="app is a login of postgres already"):
        one.store()


def test_a_platform_that_cannot_be_asked_does_not_hold_up_the_new_store(tmp_path, kept_log_in):
    one, path, done = locked_out(tmp_path, "unknown")
    _info, found = one.deployment.values_found()
    facts = {**_info["credentials"]["postgres"], "service": "", "type": "person"}
    one.deployment.values_found = lambda: ({"credentials": {"postgres": {**facts, "siblings": []}}}, found)
    assert one.reseal() == {"changed": True} and "postgres: not tried: because" in done
    assert Store.open(str(path), [("x", VaultSecret(b"new"))]).entry("postgres")["current"]["password"] == "now"


def test_of_two_accepted_values_the_one_that_has_not_changed_is_checked_all_the_same(monkeypatch):
    checked = []
    facts = {"credentials": {name: {"name": name} for name in ("a", "b")}}
    monkeypatch.setattr(
        adopting.Provisioning, "store", lambda _self: {"changed": True, "info": facts, "replaced": ["a"]}
    )
    monkeypatch.setattr(adopting.Provisioning, "log_in", lambda *_arguments: {"status": "rejected", "reason": ""})
    deployment = SimpleNamespace(entry=lambda _name: {}, check_mode=True)
    one = Adoption(deployment, {"accept": ["a", "b"]})
    one._check_agreed = lambda facts, _entry, login: checked.append((facts["name"], login["status"]))
    assert one.accept() == {"changed": True} and checked == [("b", "rejected")]


def test_a_dead_token_is_a_persons_to_replace():
    deployment = SimpleNamespace(published=lambda *_arguments: "current")
    with pytest.raises(SecretsError, match="and its platform rejects it; have a new one issued, and bring it: "):
        Adoption(deployment, {})._check_agreed({"name": "telegram", "service": ""}, {}, {"status": "rejected"})
