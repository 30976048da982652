# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rotation protocol, step by step: open, create, set, test, publish, roll out, drain, finish, revoke; and back.

Each step is one method, is idempotent, and finds what it needs in the store, in the target's memory and in the facts
that ``open`` returned. The engine is known by its two modules alone.
"""

from __future__ import annotations

import datetime
import os
import secrets
import time
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import generate
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import (
    Deployment,
    ProgressReader,
    is_gone,
    now,
    owner,
)

# Seconds without a session of the old user before it counts as drained, and how long that may take.
DRAIN_QUIET = 2
DRAIN_TIMEOUT = 60


def next_user(role: str, current: str, strategy: str) -> str:
    """Return the user that takes over: two logins alternate beside their owner; a single user stays."""
    if strategy == "single_user":
        return current
    return f"{role}_2" if current == f"{role}_1" else f"{role}_1"


def phase_of(entry: dict[str, Any], unfinished: str | None) -> str:
    """Return where a rotation of this entry stands.

    ``new``: nothing is under way. ``forward``, ``back``: a pending value goes that way. ``revoke``: all is done but the
    old value's end. ``revoke_first``: an earlier rotation's grace is over. ``grace``: it is not.
    """
    pending, previous = entry.get("pending"), entry.get("previous")
    if pending:
        return "back" if pending.get("direction") == "back" else "forward"
    if not previous:
        return "new"
    if datetime.datetime.fromisoformat(previous["revoke_after"]) > now():
        return "grace"
    return "revoke" if previous.get("rotation") == unfinished else "revoke_first"


class Rotation:
    """One rotation of one credential."""

    def __init__(self, deployment: Deployment, name: str, arguments: dict[str, Any]) -> None:
        self.deployment = deployment
        self.name = name
        self.arguments = arguments
        self.opened: dict[str, Any] = arguments.get("opened") or {}

    # -- what the steps share

    @property
    def facts(self) -> dict[str, Any]:
        return self.opened["facts"]

    @property
    def id(self) -> str:
        return self.opened["rotation"]

    def entry(self) -> dict[str, Any]:
        return self.deployment.entry(self.name)

    def note(self, **record: Any) -> None:
        """Have the target remember how far this rotation is, and the store's serial; renews the lease."""
        store = self.deployment.store
        self.deployment.state(
            "keep", rotation=self.id, owner=owner(), store_id=store.id, serial=store.serial, record=record
        )

    def _release(self, outcome: str) -> None:
        """End the lock, and have the target remember how the rotation ended."""
        store = self.deployment.store
        self.deployment.state(
            "release", rotation=self.id, store_id=store.id, serial=store.serial, outcome={self.name: outcome}
        )

    def credential_info(self, facts: dict[str, Any], entry: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        return self.deployment.module(f"{facts['modules']}_credential_info", **self._server(facts, entry), **arguments)

    def credential(self, state: str, slot: dict[str, Any], entry: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        return self.deployment.module(
            f"{self.facts['modules']}_credential",
            **self._server(self.facts, entry),
            state=state,
            strategy=self.facts["strategy"],
            credential=_login(slot),
            current=_login(entry["current"]),
            admin_login=entry.get("admin"),
            state_dir=self.deployment.state_dir,
            **arguments,
        )

    def _server(self, facts: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        if not facts["server"]:
            raise SecretsError(f"{facts['service']} is not running on {self.deployment.host}; start it first")
        return {
            "container": facts["server"]["id"],
            "host": facts["service"],
            "port": facts["port"],
            "owner": entry.get("role") or facts["role"],
            "admin": entry.get("admin"),
        }

    def log_in(self, facts: dict[str, Any], entry: dict[str, Any], *labels: str, **arguments: Any) -> dict[str, Any]:
        """Try the slots' logins over the containers' network; one attempt each."""
        slots = {label: entry[label] for label in labels if entry.get(label)}
        credentials = [{"label": label, **_login(slot)} for label, slot in slots.items()]
        return self.credential_info(facts, entry, credentials=credentials, **arguments)

    # -- open

    def open(self) -> dict[str, Any]:
        """Look at everything and touch nothing; take the lock, unless only the plan is wanted."""
        deployment = self.deployment
        deployment.require_pipelining()
        entry = deployment.entry(self.name)
        store = deployment.store
        memory = deployment.state("read", store_id=store.id, serial=store.serial)
        unfinished = next((record for record in memory["records"] if record.get("credential") == self.name), {})
        phase = phase_of(entry, unfinished.get("rotation"))
        if self.arguments["purpose"] == "revoke":
            if phase in ("forward", "back"):
                raise SecretsError(
                    f"{self.name}: a rotation is unfinished; finish it first: rotate.yml -e rotate={self.name}"
                )
            if phase == "new":
                deployment.line("open", f"{self.name}: no old value is left to end")
                return {"changed": False, "phase": "new"}
            if phase == "grace" and self.arguments["end_grace"]:
                phase = "revoke_first"
        if phase == "grace":
            raise SecretsError(
                f"{self.name}: the previous value is in its grace until {entry['previous']['revoke_after']}; "
                f"wait, or end it now: ansible-playbook playbooks/revoke.yml -e revoke={self.name} -e end_grace=true"
            )
        held = (entry.get("pending") or {}).get("rotation") or (unfinished["rotation"] if phase == "revoke" else None)
        rotation = held or f"r-{secrets.token_hex(2)}"
        if not deployment.check_mode:
            holder = (memory["lock"] or {}).get("owner", "")
            taken = deployment.state(
                "take",
                rotation=rotation,
                owner=owner(),
                take_lock=self.arguments["take_lock"],
                dead_owner=holder if is_gone(holder) else None,
                store_id=store.id,
                serial=store.serial,
                record={"credential": self.name, "rotation": rotation},
            )
            if taken["took_over"]:
                deployment.line("open", f"the lock of {taken['took_over']} ({holder}) was dead: taken over")
        try:
            return self._look(entry, phase, rotation, resumed=bool(held), stopped_in=unfinished.get("step", ""))
        except SecretsError:
            if not deployment.check_mode and phase == "new":
                deployment.state("release", rotation=rotation)
            raise

    def _look(self, entry: dict[str, Any], phase: str, rotation: str, resumed: bool, stopped_in: str) -> dict[str, Any]:
        deployment, name = self.deployment, self.name
        info = deployment.catalog_info(
            [name],
            skip_services=self.arguments["skip_services"],
            fingerprint_key=deployment.store.fingerprint_key.hex(),
        )
        facts = info["credentials"][name]
        published = deployment.published(facts, entry)
        if not published:
            raise SecretsError(
                f"DRIFT {name}: .env holds another {' or '.join(sorted(facts['variables'].values()))} than the store; "
                "to put the store's value back: ansible-playbook playbooks/provision.yml -e drift=replace"
            )
        self._server(facts, entry)  # consumers of a server that is down are unhealthy: it is the reason
        self._refuse(facts, info, resuming=phase in ("back", "forward"))
        generate(**facts["generate"])  # a rule that cannot be met is refused here, before anything is touched
        logins = self.log_in(facts, entry, "current", "pending")["logins"]
        self._check_logins(logins, entry, facts)

        user = entry["current"]["user"]
        pending = entry.get("pending") or {}
        new_user = pending.get("user") or next_user(facts["role"], user, facts["strategy"])
        resume = ""
        if resumed:
            way = {"back": "going back", "revoke": "only the old value's end is left"}.get(
                phase, "new value still valid"
            )
            resume = f"{rotation}, stopped in {stopped_in.replace('_', ' ') or 'create'}; {way}"
        if deployment.check_mode:
            deployment.show(report.plan(facts, info["project"], deployment.host, user, new_user, resume))
        else:
            if resume:
                deployment.line("open", f"RESUME {resume}")
            deployment.line("open", f"{user} logs in; lock {rotation}")
        return {
            "changed": False,
            "facts": facts,
            "addresses": info["addresses"],
            "rotation": rotation,
            "phase": phase,
            "purpose": self.arguments["purpose"],
            "published": published,
            "user": user,
            "started": time.time(),
        }

    def _refuse(self, facts: dict[str, Any], info: dict[str, Any], resuming: bool) -> None:
        """Raise the first reason not to begin; nothing has been touched yet."""
        skipped = self.arguments["skip_services"]
        if facts["literal_user"]:
            service, variable = facts["literal_user"][0], facts["variables"]["user"]
            raise SecretsError(
                f"{service}: its user name is typed into the Compose file and cannot follow an alternating user; "
                f"write ${{{variable}:-{facts['role']}}} there, or set strategy: single_user"
            )
        if facts["server_variables"]:
            raise SecretsError(
                f"{facts['service']} would be recreated by the new value (its first-start variables are not "
                "separated, or "
                "docker-compose.override.yml is lost); run playbooks/provision.yml"
            )
        if info["image_drift"]:
            raise SecretsError(
                f"{info['image_drift'][0]}; bring the stack to the image you mean first: docker compose up -d"
            )
        # While a rotation is under way its own consumers are stale; nothing else may be.
        expected = set(facts["consumers"]) if resuming else set(skipped)
        for service, change in info["pending_changes"]:
            if service not in expected:
                raise SecretsError(
                    f"{service}: docker compose up -d would {change} it now, without any rotation; "
                    "bring the running stack in line with its Compose files first"
                )
        for refusal in facts["plan"]["refusals"]:
            if resuming and " now (" in refusal:
                continue
            if self.arguments["accept_weak"] and "accept_weak" in refusal:
                continue
            raise SecretsError(refusal)

    def _check_logins(self, logins: dict[str, Any], entry: dict[str, Any], facts: dict[str, Any]) -> None:
        current = logins["current"]
        if current["status"] == "accepted":
            return
        if logins.get("pending", {}).get("status") == "accepted" and facts["strategy"] == "single_user":
            return
        if current["status"] == "rejected":
            raise SecretsError(
                f"DRIFT {self.name}: {facts['service']} rejects the store's value for {entry['current']['user']}; "
                "somebody changed it by hand: set the server back to the store's value, or the store to the server's"
            )
        raise SecretsError(f"{self.name}: {facts['service']} cannot be asked: {current['reason']}")

    # -- forward

    def create(self) -> dict[str, Any]:
        """Generate the value and write it durably, before any service sees it."""
        entry = self.entry()
        if entry.get("pending"):
            self.deployment.line("create", "stored value reused")
            return {"changed": False}
        current = entry["current"]
        pending = {
            "user": next_user(entry["role"], current["user"], self.facts["strategy"]),
            "password": generate(**self.facts["generate"]).value,
            "created": now().isoformat(),
            "rotation": self.id,
        }

        def add(credentials: dict[str, Any]) -> None:
            credentials[self.name]["pending"] = pending
            # The server's own superuser loses its password with the first rotation: another way in comes before.
            if not credentials[self.name].get("admin"):
                credentials[self.name]["admin"] = {"user": f"{entry['role']}_admin", "password": generate().value}

        self.deployment.store.change(add)
        self.note(step="create")
        self.deployment.line("create", "value stored")
        return {"changed": True}

    def set(self) -> dict[str, Any]:
        """Make the server accept the new value beside the current one."""
        entry = self.entry()
        pending, user = entry["pending"], entry["current"]["user"]
        result = self.credential("present", pending, entry)
        if self.facts["strategy"] == "pair":
            self.deployment.line("set", f"{pending['user']} accepted beside {user}")
        else:
            self.deployment.line("set", f"{user} has the new password; the old one is refused from now on")
        return {"changed": result["changed"]}

    def test(self) -> dict[str, Any]:
        """Log in with the new value over the consumers' network, in every database, before it is published."""
        entry = self.entry()
        login = self.log_in(self.facts, entry, "pending")["logins"]["pending"]
        user = entry["pending"]["user"]
        if login["status"] != "accepted":
            raise SecretsError(f"{user} is not accepted: {login['reason']}")
        for database, seen in login.get("databases", {}).items():
            if seen["current_user"] != entry["role"]:
                raise SecretsError(
                    f"{user} works as {seen['current_user']} in {database}, not as {entry['role']}; "
                    "its membership lacks the SET option"
                )
        self.deployment.line("test", f"{user} logs in; sees what {entry['role']} sees")
        return {"changed": False}

    def publish(self) -> dict[str, Any]:
        """Write user name and password to .env together."""
        entry = self.entry()
        result = self.deployment.publish(self.deployment.env_values(self.facts, entry, entry["pending"]))
        self.deployment.line("publish", "1 file" if result["changed"] else "1 file, written before")
        return {"changed": result["changed"]}

    def roll_out(self) -> dict[str, Any]:
        """Replace the stale consumers in waves, each verified before its old container goes."""
        result = self._replace("roll_out")
        gaps = {name: done["gap_s"] for name, done in result["services"].items() if done.get("gap_s")}
        return {"changed": result["changed"], "gaps": gaps, "addresses": result["addresses"]}

    def _replace(self, step: str) -> dict[str, Any]:
        skipped = self.arguments["skip_services"]
        folder = os.path.join(self.deployment.state_dir, "runs", self.id)
        progress = os.path.join(folder, f"{step}-{int(time.time())}.jsonl")
        with ProgressReader(self.deployment, progress, step):
            return self.deployment.module(
                "compose_rollout",
                **self.deployment.project(),
                services=[name for name in self.facts["consumers"] if name not in skipped],
                options=self.deployment.arguments["services"],
                mask_variables=[self.facts["variables"]["password"]],
                accept_weak=self.arguments["accept_weak"],
                log_dir=folder,
                progress=progress,
                state_dir=self.deployment.state_dir,
                **self.arguments["rollout"],
            )

    def drain(self) -> dict[str, Any]:
        """Wait until no session uses the old value; name whoever still does."""
        entry = self.entry()
        if entry.get("pending"):
            old, new = entry["current"]["user"], entry["pending"]["user"]
        else:
            old, new = entry["previous"]["user"], entry["current"]["user"]
        if self.facts["strategy"] == "single_user":
            self.deployment.line("drain", "one user: sessions cannot tell the values apart")
            return {"changed": False}
        addresses = self.arguments["rolled"].get("addresses") or self.opened["addresses"]
        info = self.credential_info(self.facts, entry, idle_user=old, idle_for=DRAIN_QUIET, timeout=DRAIN_TIMEOUT)
        using: dict[str, set[str]] = {old: set(), new: set()}
        for session in info["sessions"]:
            if session["user"] in using:
                address = session["address"] or "the server's own socket"
                using[session["user"]].add(addresses.get(address, address))
        if not info["idle"]:
            who = ", ".join(sorted(using[old])) or "sessions that come and go"
            raise SecretsError(f"{old} is still used by {who}; end that session")
        consumers = [name for name in self.facts["consumers"] if name not in self.arguments["skip_services"]]
        seen = [name for name in consumers if name in using[new]]
        unseen = len(consumers) - len(seen)
        text = f"{len(seen)} of {len(consumers)} on {new}; 0 sessions on {old}"
        self.deployment.line("drain", text + (f" ({unseen} unseen: no session now)" if unseen else ""))
        return {"changed": False}

    def finish(self) -> dict[str, Any]:
        """The new value becomes the current one, durably; the old one is kept until it is dead."""
        revoke_after = now() + datetime.timedelta(seconds=self.facts["grace"])

        def move(credentials: dict[str, Any]) -> None:
            entry = credentials[self.name]
            entry["previous"] = {**entry["current"], "rotation": self.id, "revoke_after": revoke_after.isoformat()}
            entry["current"] = entry.pop("pending")

        self.deployment.store.change(move)
        self.note(step="finish")
        if self.facts["grace"]:
            self._release("ok")
            self._summary(refused_at="", revoke_after=revoke_after.isoformat())
        return {"changed": True}

    def revoke(self) -> dict[str, Any]:
        """End the old value and its sessions; see it refused."""
        entry = self.entry()
        previous = entry["previous"]
        if self.facts["strategy"] == "pair":
            self.credential("absent", previous, entry)
        else:
            login = self.log_in(self.facts, entry, "previous")["logins"]["previous"]
            if login["status"] != "rejected":
                raise SecretsError(f"the old password of {previous['user']} is {login['status']}, not rejected")
        refused_at = report.clock()

        def drop(credentials: dict[str, Any]) -> None:
            credentials[self.name].pop("previous")

        self.deployment.store.change(drop)
        self.deployment.line("revoke", "old password refused over the network")
        if previous["rotation"] == self.id or self.opened["purpose"] == "revoke":
            self._release("ok")
            self._summary(refused_at=refused_at, revoke_after="")
        return {"changed": True}

    def _summary(self, refused_at: str, revoke_after: str) -> None:
        entry, deployment = self.entry(), self.deployment
        # The one login that was tried on purpose, to see the old password refused, is not counted.
        info = self.credential_info(
            self.facts, entry, refused_since=int(self.opened["started"]), own_refusals=1 if refused_at else 0
        )
        due = datetime.datetime.fromisoformat(entry["current"]["created"]) + datetime.timedelta(
            seconds=self.facts["interval"]
        )
        outcome = {
            "seconds": time.time() - self.opened["started"],
            "refused": info["refused_logins"],
            "gaps": self.arguments["rolled"].get("gaps", {}),
            "skipped": self.arguments["skip_services"],
            "refused_at": refused_at,
            "revoke_after": revoke_after,
            "due": due.date().isoformat(),
        }
        deployment.show(report.summary(self.facts, entry["current"]["user"], outcome), color="green")

    # -- back

    def back(self) -> dict[str, Any]:
        """Return to the current value everywhere and retire the new one; always ends with the STOPPED block."""
        deployment, entry = self.deployment, self.entry()
        record = deployment.state("read", rotation=self.id)["record"]
        step, reason = record.get("step", "open"), record.get("reason", "the run was interrupted")
        pending, user = entry.get("pending"), entry["current"]["user"]
        details = []
        if not pending:
            working = f"working, on {user}"
            rerun = "ends the old value" if entry.get("previous") else "starts again"
            # Where the old value's end alone is left, the record stays: without it a rerun would rotate once more.
            if (entry.get("previous") or {}).get("rotation") != self.id:
                self._release(f"STOPPED at {step}")
        elif step in ("drain", "finish"):
            # The new value works everywhere; going back for one foreign session would harm more than it helps.
            working, rerun = f"working, on {pending['user']}; {user} stays valid too", "looks again"
        else:
            self._go_back(entry, pending, step)
            working = (
                f"working: {len(self.facts['consumers'])} of {len(self.facts['consumers'])} back on the old, valid"
            )
            working += " password. Nothing is locked out."
            rerun = "tries again, with another new password"
        details = [("Services", working), ("Rerun", rerun)]
        if record.get("log"):
            details.append(("Look", f"{deployment.host}:{record['log']} (masked)"))
        deployment.show(report.stopped(self.name, step, reason, details), color="red")
        return {
            "changed": bool(pending),
            "failed": True,
            "msg": f"{self.name} was not rotated; why, and what to do: the block STOPPED above",
        }

    def _go_back(self, entry: dict[str, Any], pending: dict[str, Any], step: str) -> None:
        deployment = self.deployment

        def turn(credentials: dict[str, Any]) -> None:
            credentials[self.name]["pending"]["direction"] = "back"

        deployment.store.change(turn)
        self.note(step=step)
        if self.facts["strategy"] == "single_user":
            # In place there is no second login: the old password has to be set again before anybody goes back to it.
            self.credential("present", entry["current"], {**entry, "current": pending})
        deployment.publish(deployment.env_values(self.facts, entry, entry["current"]))
        self._replace("back")
        if self.facts["strategy"] == "pair":
            self.credential("absent", pending, entry)

        def retire(credentials: dict[str, Any]) -> None:
            credentials[self.name].pop("pending")

        deployment.store.change(retire)
        self._release(f"STOPPED at {step}")

    # -- failures

    def remember(self, step: str, error: SecretsError) -> None:
        """Have the target remember why a step failed, for the block that ``back`` shows."""
        try:
            self.note(step=step, reason=error.message, log=error.details.get("log") or "")
        except SecretsError:
            # The first error is the one to show; it is this task's message in any case.
            return


def _login(slot: dict[str, Any]) -> dict[str, Any]:
    return {"user": slot["user"], "password": slot["password"]}
