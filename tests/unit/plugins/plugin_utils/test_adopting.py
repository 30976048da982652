# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import checked_catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.adopting import DRAFT, Adoption, draft_of


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
ASK = [{"variable": "SMTP_PASSWORD", "place": "variable", "file": "", "services": ["mailer"]}]


def test_the_draft_has_what_can_be_rotated_and_names_the_rest():
    catalog, text = draft_of(FOUND, ASK)
    assert catalog == {
        "postgres": {},
        "db": {"engine": "postgresql", "variables": {"user": "DB_USER", "password": "DB_PASS"}},
        "legacy": {"variables": {"password": "OLD_PASSWORD"}, "strategy": "single_user"},
    }
    assert yaml.safe_load(text) == {"secrets_catalog": catalog}
    checked_catalog(catalog)
    assert [line for line in text.splitlines() if line.startswith("  #")] == [
        "  # typed: POSTGRES_PASSWORD: not in .env yet",
        "  # redis: REDIS_PASSWORD: redis cannot be rotated yet",
        "  # SMTP_PASSWORD (mailer): no engine known",
    ]


def test_a_draft_without_any_credential_is_a_catalog_too():
    assert yaml.safe_load(draft_of([], ASK)[1]) == {"secrets_catalog": {}}


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
    seen = {"found": FOUND[:2], "ask": ASK, "warn": ["x " * 60]}
    assert report.findings(seen, "db1") == [
        "FOUND  postgres  postgresql  db1  POSTGRES_USER + POSTGRES_PASSWORD  1 service",
        "FOUND  db        postgresql  db1  DB_USER + DB_PASS                  1 service",
        "ASK    SMTP_PASSWORD (mailer): no engine known",
        "WARN   " + " ".join(["x"] * 47),
        "       " + " ".join(["x"] * 13),
    ]
