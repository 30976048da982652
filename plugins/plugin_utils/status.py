# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of every credential of a deployment, from the store, ``.env``, the server and the containers alike."""

from __future__ import annotations

import datetime
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.declared import PRIORITIES
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.tokens import PLATFORMS
from ansible_collections.chat4all.secrets.plugins.module_utils.state import person
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys, jwt_rotation, report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment, is_gone, now
from ansible_collections.chat4all.secrets.plugins.plugin_utils.outside import Outside, waits_for
from ansible_collections.chat4all.secrets.plugins.plugin_utils.provisioning import login_found
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import Rotation, old_value, phase_of, record_of
from ansible_collections.chat4all.secrets.plugins.plugin_utils.serverless import rotation_of

# A credential is due soon when this part of its interval, at most, is left.
SOON = 0.05
# What to type where the server accepts nothing that is known.
REPLACE = "rotate -e rotate={0} -e drift=replace"


def age_and_due(created: str, interval: int) -> tuple[datetime.timedelta, datetime.timedelta]:
    """Return how old a value is and how long it may still be used (negative: overdue)."""
    age = now() - datetime.datetime.fromisoformat(created)
    return age, datetime.timedelta(seconds=interval) - age


class Status:
    """Reads the state; nothing is changed."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def show(self) -> dict[str, Any]:
        deployment = self.deployment
        deployment.require_discretion()
        store = deployment.store
        memory = deployment.memory()
        info = deployment.catalog_info([], fingerprint_key=store.fingerprint_key.hex())
        stale = {service for service, _change in info["pending_changes"]}
        by_priority = sorted(info["credentials"].values(), key=lambda facts: PRIORITIES.index(facts["priority"]))
        rows = [self._row(facts, memory, stale) for facts in by_priority]
        lock = memory.get("lock")
        foot = f"lock: {lock['rotation']} ({person(lock['owner'])}, since {lock['since']})" if lock else "lock: none"
        ledger = memory["ledger"]
        state = f"BROKEN, {ledger['problem']}" if ledger["problem"] else "intact"
        foot += f"   ledger: {state} ({ledger['entries']})   store: serial {store.serial}"
        deployment.show([*report.status_table(rows), foot])
        needing = [row["name"] for row in rows if row["needs"]] + ["ledger"] * bool(ledger["problem"])
        return {
            "changed": False,
            "failed": bool(needing),
            "msg": f"{', '.join(needing)}: see the table" if needing else "nothing to do",
            "credentials": rows,
        }

    def _row(self, facts: dict[str, Any], memory: dict[str, Any], stale: set[str]) -> dict[str, Any]:
        name = facts["name"]
        row = {"name": name, "type": facts["type"], "age": "-", "due": "-", "last": "-", "needs": True}
        entry = self.deployment.stored(name)
        if not entry.get("current"):
            return {**row, "now": "not provisioned -> provision"}
        age, due = age_and_due(entry["current"]["created"], facts["interval"])
        row.update(age=f"{age.days}d", due=f"{due.days}d")
        record = record_of(name, memory)
        lock = memory["lock"]
        if lock and record and lock["rotation"] == record["rotation"] and not is_gone(lock["owner"]):
            at = record.get("step", "open").replace("_", " ")
            return {**row, "needs": False, "now": f"running, after {at}: {person(lock['owner'])}"}
        unfinished = bool(entry.get("pending") or entry.get("target") or record)
        row["last"] = "STOPPED" if unfinished else "ok"
        state = self._now(facts, entry, stale, record)
        outcome = memory["outcomes"].get(name, {}).get("result", "ok")
        if outcome == "aborted" and not unfinished:
            row["last"] = "aborted"
        elif outcome != "ok" and not unfinished:
            row["last"] = "STOPPED"
            state += f"; the last rotation {outcome.replace('_', ' ')}; rerun retries"
        overdue = due.total_seconds() < 0
        by_schedule = jwt_keys.has_keys(facts)
        ends = phase_of(entry) in ("revoke", "revoke_first", "waits")
        runs_out = facts["engine"] in PLATFORMS and PLATFORMS[facts["engine"]].renews
        old_must_end = not runs_out and (ends or bool(waits_for(old_value(entry) or {})))
        if overdue:
            state += "; OVERDUE" + ("" if by_schedule else f" -> rotate -e rotate={name}")
        elif not by_schedule and due.total_seconds() < facts["interval"] * SOON:
            state += "; due soon"
        return {
            **row,
            "now": state,
            "needs": overdue
            or old_must_end
            or row["last"] == "STOPPED"
            or any(word in state for word in ("DRIFT", "cannot", "LATE")),
        }

    def _now(self, facts: dict[str, Any], entry: dict[str, Any], stale: set[str], record: dict[str, Any]) -> str:
        name = facts["name"]
        if jwt_keys.has_keys(facts):
            return jwt_rotation.state_of(self.deployment, facts, entry, stale, record)
        if entry.get("pending"):
            in_place = facts["strategy"] == "single_user"
            way = "services without the new password may be refused" if in_place else "services work"
            way = "going back" if entry["pending"].get("direction") == "back" else way
            step = record.get("step", "create").replace("_", " ")
            onward = f"rerun goes on: rotate -e rotate={name}; abort -e rotate={name} goes back"
            return f"unfinished at {step}; {way}; {onward}"
        published = self.deployment.published(facts, entry)
        rotation = rotation_of(self.deployment, name, {})
        if not published:
            return self._drift(facts, entry, rotation)
        try:
            login = rotation.log_in(facts, entry, "current")["logins"]["current"]
        except SecretsError as error:
            return error.message if error.message.startswith("DRIFT ") else f"server cannot be asked: {error.message}"
        if login["status"] == "rejected":
            return f"DRIFT: {rotation.server_name} rejects the store's value, which .env has, too -> {rotation.mend()}"
        if login["status"] not in ("accepted", "untested"):
            return f"server cannot be asked: {login['reason']}"
        fresh = [service for service in facts["consumers"] if service not in stale]
        agree = "current=env=server" if login["status"] == "accepted" else "current=env"
        text = f"{agree}; {len(fresh)}/{len(facts['consumers'])} services"
        outside = Outside(rotation, facts)
        try:
            stale_files = outside.stale(entry)
        except SecretsError as error:
            return f"{text}; file cannot be read: {error.message}"
        if outside.files:
            text += f", {len(outside.files) - len(stale_files)}/{len(outside.files)} files"
        if stale_files:
            text += f"; DRIFT: the file of {', '.join(stale_files)} holds another value than the store"
        old = old_value(entry)
        if old and facts["type"] == "person":
            return f"{text}; {rotation.old_ends(old)}"
        if old and waits_for(old):
            text += f"; TODO: {report.to_confirm(name, waits_for(old), short=True)}"
        elif old:
            ends = f"ends after {old['revoke_after']}" if old.get("revoke_after") else "is to be ended"
            text += f"; old value of {old['user'] or name} valid, {ends} -> revoke -e revoke={name}"
        return text

    def _drift(self, facts: dict[str, Any], entry: dict[str, Any], rotation: Rotation) -> str:
        """Say which of the two values the server accepts, and what to do then; one login with each."""
        name = facts["name"]
        _info, found = self.deployment.values_found()
        try:
            user, password = login_found(facts, found[name])
        except SecretsError as error:
            return f"DRIFT: {error.message.removeprefix(f'{name}: ')}"
        slot = entry["current"]
        env = {**slot, "user": user or slot["user"], "password": password or slot["password"]}
        try:
            logins = rotation.log_in(facts, {**entry, "env": env}, "current", "env")["logins"]
        except SecretsError as error:
            return f"DRIFT: .env holds another value than the store; server cannot be asked: {error.message}"
        current, other = logins["current"]["status"], logins["env"]["status"]
        if "unknown" in (current, other):
            return f"DRIFT: .env holds another value than the store; server cannot be asked: {logins['env']['reason']}"
        if (current, other) == ("rejected", "rejected"):
            return f"DRIFT: the server rejects both the store's value and .env's -> {REPLACE.format(name)}"
        if other == "rejected":
            return "DRIFT: the server rejects .env's value; accepts the store's -> provision -e drift=replace"
        if other == "untested":
            return f"DRIFT: .env holds another value than the store -> adopt -e accept={name}, or provision -e drift=replace"
        said = "rejects the store's value; accepts .env's" if current == "rejected" else "accepts both values"
        return f"DRIFT: server {said} -> adopt -e accept={name}"
