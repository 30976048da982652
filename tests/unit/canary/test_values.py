# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The canary test looks for every value of a store, whatever slot it is in, and for what was brought and never stored."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "canary"))

from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys
from scenario import Plays, Scenario


def key(name: str) -> dict[str, str]:
    return {"user": f"k-{name}", "password": f"value-{name}", "created": "2026-01-01", "algorithm": "HS256"}


def stored(serial: int = 1, **credentials: dict) -> dict:
    head = {"fingerprint_key": "the-fingerprint-key", "serial": serial}
    return {"secrets_store": head, "secrets_credentials": credentials}


def test_every_slot_of_every_credential_is_there_and_nothing_else():
    phases = {"target": {"phase": "emergency", "current": key("t"), "spare": key("u"), "previous": key("v")}}
    phases["dropped"] = {"phase": "introduce", "current": key("c"), "next": key("d")}
    store = stored(
        jwt={
            "current": key("c"),
            "next": key("n"),
            "previous": key("p"),
            "spare": key("s"),
            "document": "{}",
            **phases,
        },
        telegram={
            "current": key("1"),
            "pending": key("2"),
            "previous": {**key("3"), "revoked": "2026"},
            "dropped": key("4"),
        },
        postgres={
            "current": key("5"),
            "admin": key("6"),
            "init": {"POSTGRES_USER": "chat4all", "POSTGRES_PASSWORD": "value-7"},
        },
        imported={"current": key("8"), "previous": {"user": "other", "password": ""}},
    )
    expected = {f"value-{name}" for name in "tuvcdnps12345678"} | {"the-fingerprint-key"}
    found = list(Plays.values(store))
    assert {value for _label, value in found} == expected
    assert dict(found)["jwt, target, spare, password"] == "value-u"
    assert dict(found)["postgres, init, POSTGRES_PASSWORD"] == "value-7"


def test_every_version_of_the_store_and_every_brought_token_is_looked_for(tmp_path):
    scenario = Scenario("unit")
    (tmp_path / "password").write_text("the-vault-password\n")
    scenario.plays = SimpleNamespace(password_file=tmp_path / "password", values=Plays.values)
    pair = {**jwt_keys.make("ES256"), "created": "2026-01-01"}
    scenario.stores = [
        stored(1, jwt={"current": key("1")}),
        stored(2, pair={"current": key("2"), "target": {"current": pair}}),
    ]
    scenario.brought = [("brought for telegram", "123456:rejected")]
    scenario.verifiers = {"SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"}
    looked_for = scenario.needles().labels
    assert {"value-1", "value-2", "123456:rejected", "the-vault-password", "the-fingerprint-key", "c2VydmVy"} <= set(
        looked_for
    )
    lines = pair["password"].splitlines()
    assert set(lines[2:-1]) <= set(looked_for) and lines[0] not in looked_for
