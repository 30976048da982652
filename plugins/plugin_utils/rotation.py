# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rotation protocol, step by step: open, create, set, test, publish, roll out, drain, finish, revoke; and back.

Each step is one method, is idempotent, and finds what it needs in the store, in the target's memory and in the facts
that ``open`` returned. The engine is known by its two modules alone.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import generate
from ansible_collections.chat4all.secrets.plugins.module_utils.state import boot_seconds
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import (
    Deployment,
    ProgressReader,
    now,
)
from ansible_collections.chat4all.secrets.plugins.plugin_utils.hosts import Host, Unreachable, everywhere
from ansible_collections.chat4all.secrets.plugins.plugin_utils.outside import Outside, waits_for
from ansible_collections.chat4all.secrets.plugins.plugin_utils.placing import Place, clients, consumers_of

# Seconds without a session of the old user before it counts as drained, and how long that may take.
DRAIN = {"quiet": 2, "timeout": 60}

# What the services have while the target cannot be reached, by the step in which it was lost.
UNREACHED = {
    **dict.fromkeys(("create", "set", "test", "publish"), "as before, on the old, valid password"),
    **dict.fromkeys(("roll_out", "drain", "finish", "back"), "on the old or the new password; both are valid"),
    "revoke": "on the new, valid password",
}

# Seconds by which a clock that is steered, not set, may be wrong.
CLOCK_SLACK = 2

# What is said where a server elsewhere rejects the password of its administrator.
ADMIN_REJECTED = re.compile(r"the administrator does not get in \(.*password authentication failed")

# What a rerun does, by the phase that it finds.
RESUMED = {
    "forward": "new value still valid",
    "back": "going back",
    "revoke": "only the old value's end is left",
}


def next_user(role: str, current: str, strategy: str) -> str:
    """Return the user that takes over: two logins of a pair alternate beside their owner; any other user stays."""
    if strategy != "pair":
        return current
    return f"{role}_2" if current == f"{role}_1" else f"{role}_1"


def old_value(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the previous value where it may still be valid; a revoked one is kept to recognize a restored server.

    A signing key that was replaced is not one to end: its schedule retires it.
    """
    previous = entry.get("previous")
    return previous if previous and not {"revoked", "replaced"} & set(previous) else None


def role_in(facts: dict[str, Any], entry: dict[str, Any]) -> str:
    """Return the role of an entry: the store's, for which the declared one may stand until the first rotation."""
    stored, declared = entry.get("role"), facts.get("declared_role")
    begun = entry.get("previous") or entry.get("pending")
    if declared and not begun and (entry.get("current") or {}).get("user") not in (f"{stored}_1", f"{stored}_2"):
        return str(declared)
    return str(stored or facts["role"])


def phase_of(entry: dict[str, Any]) -> str:
    """Return where a rotation of this entry stands.

    ``new``: nothing is under way. ``forward``, ``back``: a pending value goes that way. ``revoke``: all is done but the
    old value's end. ``revoke_first``: an earlier rotation's grace is over. ``grace``: it is not. ``waits``: it is, but
    persons have to confirm first that they do not use the old value any more.
    """
    pending, old = entry.get("pending"), old_value(entry)
    if pending:
        return "back" if pending.get("direction") == "back" else "forward"
    if not old:
        return "new"
    if "revoke_after" in old and datetime.datetime.fromisoformat(old["revoke_after"]) > now():
        return "grace"
    if waits_for(old):
        return "waits"
    return "revoke_first" if "revoke_after" in old or "waits_for" in old else "revoke"


def is_unfinished(entry: dict[str, Any]) -> bool:
    """Tell whether a rotation of this entry was begun and has not ended."""
    return "target" in entry or (bool(entry) and phase_of(entry) in ("forward", "back", "revoke"))


def untested(entry: dict[str, Any], *labels: str) -> dict[str, Any]:
    """Return the answer of a login with each of the slots where there is no server to ask."""
    login = {"status": "untested", "reason": "no server here accepts it"}
    return {"logins": {label: dict(login) for label in labels if entry.get(label)}}


def record_of(name: str, memory: dict[str, Any]) -> dict[str, Any]:
    """Return what the target remembers of a credential's unfinished run."""
    return next((record for record in memory["records"] if record.get("credential") == name), {})


def changed_by_hand(name: str) -> str:
    """Return what to do where somebody has changed a credential's value at the server."""
    accept = report.command("adopt", accept=name)
    replace = report.command("rotate", rotate=name, drift="replace")
    return f"If .env has the new one: {accept}; if nobody knows it: {replace}"


class Rotation:
    """One rotation of one credential."""

    # What the same command does after a rotation has gone back.
    AGAIN = "tries again, with another new password"
    # Whether the end of the old value replaces consumers once more.
    REPLACES_AT_END = False

    def __init__(self, deployment: Deployment, name: str, arguments: dict[str, Any]) -> None:
        self.deployment = deployment
        self.name = name
        self.arguments = arguments
        self.opened: dict[str, Any] = arguments.get("opened") or {}

    @property
    def outside(self) -> Outside:
        """The consumers outside Compose."""
        return Outside(self, self.facts)

    # -- what the steps share

    @property
    def facts(self) -> dict[str, Any]:
        return self.opened["facts"]

    @property
    def id(self) -> str:
        return self.opened["rotation"]

    @property
    def holder(self) -> dict[str, Any]:
        """Who has to hold the lock while a module changes something, and with which store."""
        return self.deployment.holder(self.id)

    def entry(self) -> dict[str, Any]:
        return self.deployment.entry(self.name)

    def called(self, slot: dict[str, Any]) -> str:
        """Return what people call the login of a slot."""
        return str(slot["user"])

    @property
    def server_name(self) -> str:
        """Return what people call whoever accepts the credential."""
        return "the server"

    def mend(self) -> str:
        """Return what is typed where the store's value is rejected, as the status table says it."""
        return f"rotate -e rotate={self.name} -e drift=replace"

    def old_ends(self, old: dict[str, Any]) -> str:
        """Return how an old value ends that nobody here can end, as the status table says it."""
        return f"TODO: {self.todo(old)}"

    def todo(self, old: dict[str, Any]) -> str:
        """Return what a person has to do to end an old value, as the status table says it."""
        then = f"then: revoke -e revoke={self.name} -e confirmed=true"
        return f"end the old value of {self.name} where it was issued, {then}"

    def slot(self, entry: dict[str, Any], label: str) -> dict[str, Any]:
        """Return a slot that this step needs."""
        if not entry.get(label):
            raise SecretsError(
                f"{self.name}: its {label} value is gone: another run has ended {self.id}; see status.yml"
            )
        return entry[label]

    def change(self, mutator: Callable[[dict[str, Any]], None]) -> None:
        """Change this credential's entry in the store, durably."""
        self.deployment.store.change(lambda credentials: mutator(credentials[self.name]))

    def records(self, *steps: str, state: str = "done", slot: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return records for the ledger; of a slot's value they hold a keyed fingerprint."""
        facts = {"rotation": self.id, "credential": self.name}
        if slot:
            facts |= {"user": slot["user"], "fingerprint": self.deployment.store.fingerprint(slot["password"])}
        return [{**facts, "step": step, "state": state} for step in steps]

    def note(self, ledger: list[dict[str, Any]], **record: Any) -> None:
        """Have the target remember how far this rotation is; renews the lease, and raises where it is lost."""
        self.deployment.state("keep", **self.holder, record=record, ledger=ledger)

    def _release(self, ledger: list[dict[str, Any]], result: str, **outcome: Any) -> dict[str, Any]:
        """End the lock, and have the target remember how the rotation ended; returns its memory."""
        return self.deployment.release(self.holder, outcome={self.name: {"result": result, **outcome}}, ledger=ledger)

    def credential_info(self, facts: dict[str, Any], entry: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        home, server = self.deployment.home(facts), self._server(facts, entry)
        try:
            return home.module(f"{facts['modules']}_credential_info", **server, **arguments)
        except SecretsError as error:
            if not facts.get("address") or not ADMIN_REJECTED.search(error.message):
                raise
            admin = facts["admin"] or self.name
            raise SecretsError(
                f"DRIFT {admin}: {facts['service']} rejects the store's value for {server['admin']['user']}, the "
                f"administrator; write the one that it accepts into .env, then: {report.command('adopt', accept=admin)}"
            ) from None

    def credential(
        self, state: str, slot: dict[str, Any], entry: dict[str, Any], looking: bool = False, **arguments: Any
    ) -> dict[str, Any]:
        """Have the engine's module do its work, or only say what it would do."""
        home = self.deployment.home(self.facts)
        return (home.would if looking else home.module)(
            f"{self.facts['modules']}_credential",
            **self._server(self.facts, entry),
            state=state,
            strategy=self.facts["strategy"],
            credential=_login(slot),
            current=_login(entry["current"]),
            # In place the one user stays what it is, and needs nobody beside it.
            admin_login=self._administrator(self.facts, entry) if self.facts["strategy"] == "pair" else None,
            state_dir=home.state_dir,
            holder=self.holder,
            **arguments,
        )

    def skipped(self, facts: dict[str, Any]) -> set[str]:
        """Return the consumers that keep what they have: named as such, or on several hosts by their service alone."""
        given = set(self.arguments["skip_services"])
        return {name for name in consumers_of(facts) if given & {name, name.rpartition("/")[2]}}

    def _server(self, facts: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        if facts["address"]:
            return {
                "address": facts["address"],
                "owner": entry.get("role") or facts["role"],
                "databases": [facts["database"] or "postgres"],
                "admin": self._administrator_elsewhere(facts, entry),
            }
        if not facts["server"]:
            raise SecretsError(f"{facts['service']} is not running on {facts['host']}; start it first")
        return {
            "container": facts["server"]["id"],
            "host": facts["service"],
            "port": facts["port"],
            "owner": entry.get("role") or facts["role"],
            "databases": [facts["database"]] if facts["database"] else None,
            "admin": self._administrator(facts, entry) or self._first_login(facts, entry),
        }

    def _administrator_elsewhere(self, facts: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        """Return the login that makes roles on a server elsewhere: another credential's, or this one's own.

        Its own is enough to look where the other one is not in the store yet.
        """
        admin = self.deployment.stored(facts["admin"]) if facts["admin"] else {}
        if not admin.get("current"):
            return _login(entry["current"])
        if admin.get("pending"):
            raise SecretsError(
                f"{facts['admin']}, the administrator of {facts['service']}, is in a rotation; finish it first: "
                + report.command("rotate", rotate=facts["admin"])
            )
        return _login(admin["current"])

    def _entries(self, facts: dict[str, Any], entry: dict[str, Any]) -> list[dict[str, Any]]:
        """Return this credential's entry, and those of the others of its server."""
        return [entry, *(self.deployment.stored(other) for other in facts["siblings"])]

    def _administrator(self, facts: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any] | None:
        """Return the server's administrator of ours; it has one, which the first rotation of any credential makes.

        A server elsewhere has its own.
        """
        if facts["address"]:
            return None
        found = [one["admin"] for one in self._entries(facts, entry) if one.get("admin")]
        return _login(found[0]) if found else None

    def _first_login(self, facts: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        """Return the login that may be the first superuser's, for a socket that asks for a password."""
        first = [
            one for one in self._entries(facts, entry) if one.get("current") and one.get("role") == facts["first_user"]
        ]
        return _login((first or [entry])[0]["current"])

    def log_in(self, facts: dict[str, Any], entry: dict[str, Any], *labels: str, **arguments: Any) -> dict[str, Any]:
        """Try the slots' logins over the containers' network; one attempt each."""
        slots = {label: entry[label] for label in labels if entry.get(label)}
        credentials = [{"label": label, **_login(slot)} for label, slot in slots.items()]
        return self.credential_info(facts, entry, credentials=credentials, **arguments)

    # -- open

    def check_options(self) -> None:
        """Refuse what is not for this credential: passed over in silence it would be taken for done."""
        options = {"phase": "jwt_phase", "emergency": "emergency", "accept_invalid_tokens": "accept_invalid_tokens"}
        for option, called in options.items():
            if self.arguments["jwt"].get(option):
                raise SecretsError(f"{self.name}: {called} is for JWT signing keys alone; leave it out")

    def open(self) -> dict[str, Any]:
        """Look at everything and touch nothing; take the lock, unless only the plan is wanted."""
        deployment, purpose = self.deployment, self.arguments["purpose"]
        deployment.require_discretion()
        entry = deployment.entry(self.name)
        phase = phase_of(entry)
        going_on = self.arguments["end_grace"] or self.arguments["confirmed_by"]
        if (phase in ("grace", "waits") and not going_on) or (phase == "new" and purpose != "rotate"):
            left = record_of(self.name, deployment.memory()).get("rotation")
            if left and (phase == "new" or left == entry["previous"]["rotation"]):
                return self._close(entry, left)
        if purpose == "abort":
            if phase not in ("forward", "back"):
                raise SecretsError(f"{self.name}: there is nothing to go back from; status.yml shows where it stands")
            phase = "back"
        if purpose == "rotate" and phase == "grace" and self.arguments["end_grace"]:
            phase = "revoke_first"
        if purpose == "revoke":
            if phase in ("forward", "back"):
                raise SecretsError(
                    f"{self.name}: a rotation is unfinished; finish it first: "
                    + report.command("rotate", rotate=self.name)
                )
            if phase in ("grace", "waits", "revoke_first") and self.arguments["confirmed_by"]:
                entry = self._confirm(entry)
                phase = phase_of(entry)
            if phase == "grace" and self.arguments["end_grace"]:
                phase = "waits" if waits_for(entry["previous"]) else "revoke_first"
            if phase in ("new", "grace", "waits"):
                left = "no old value is left to end"
                if phase == "grace":
                    left = f"ends after {entry['previous']['revoke_after']}; -e end_grace=true ends it now"
                if phase == "waits":
                    left = report.to_confirm(self.name, waits_for(entry["previous"]))
                deployment.line("open", f"{self.name}: {left}")
                return {"changed": False, "phase": phase}
        held = (entry["previous"] if phase == "revoke" else entry.get("pending") or {}).get("rotation")
        self.opened = {"rotation": held or f"r-{secrets.token_hex(2)}", "purpose": purpose, "began": boot_seconds()}

        def look(memory: dict[str, Any]) -> dict[str, Any]:
            return self._look(entry, phase, memory, record_of(self.name, memory) if held else None)

        return self._locked(look, bool(held), entry.get("pending"))

    def _locked(
        self,
        look: Callable[[dict[str, Any]], dict[str, Any]],
        held: bool,
        slot: dict[str, Any] | None = None,
        **record: Any,
    ) -> dict[str, Any]:
        """Take the lock, unless only the plan is wanted, and ``look``, which is given what the targets remember.

        Where that refuses, the lock is let go. ``held``: an earlier run is taken up, with ``slot``; ``record``: what else is
        remembered of this one.
        """
        deployment = self.deployment
        if deployment.check_mode:
            memory = deployment.memory()
        else:
            memory = deployment.take(
                self.holder,
                forget=not held,
                take_lock=self.arguments["take_lock"],
                record={"credential": self.name, "rotation": self.id, **record},
                ledger=self.records("open", state="resumed", slot=slot) if held else [],
            )
        self.opened["clocks"] = memory["clocks"]
        try:
            return look(memory)
        except (SecretsError, AnsibleConnectionFailure) as error:
            lost = isinstance(error, AnsibleConnectionFailure) and not deployment.is_spread
            if not deployment.check_mode and not lost:
                # What is unfinished stays remembered; only the lock goes.
                deployment.let_go(self.holder, forget=not held)
            raise

    def _confirm(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Remember in the store which persons do not use the old value any more; returns the entry."""
        deployment, old = self.deployment, entry["previous"]
        known, given = old.get("waits_for", []), self.arguments["confirmed_by"]
        unknown = [name for name in given if name not in known]
        if unknown and known:
            raise SecretsError(
                f"confirmed={unknown[0]}: {self.name} does not wait for that; it waits for {', '.join(known)}"
            )
        fresh = [name for name in waits_for(old) if name in given]
        changed = {**old, "confirmed": [*old.get("confirmed", []), *fresh]}
        if not fresh or deployment.check_mode:
            return {**entry, "previous": changed}
        self.opened = {"rotation": f"r-{secrets.token_hex(2)}"}
        deployment.take(self.holder, take_lock=self.arguments["take_lock"])
        done = []
        try:
            self.change(lambda stored: stored["previous"].update(confirmed=changed["confirmed"]))
            done = self.records("open", state=f"confirmed by {', '.join(fresh)}")
        finally:
            deployment.release(self.holder, ledger=done)
        deployment.line("open", f"{self.name}: confirmed by {', '.join(fresh)}")
        return self.entry()

    def _close(self, entry: dict[str, Any], rotation: str) -> dict[str, Any]:
        """End what a run has left that died between its last change of the store and the end of its lock."""
        deployment = self.deployment
        self.opened = {"rotation": rotation, "purpose": self.arguments["purpose"]}
        previous = entry.get("previous") or {}
        # One that died after finish cannot have gone back.
        aborting = self.opened["purpose"] == "abort" and previous.get("rotation") != rotation
        if aborting:
            rows = self.records("back")
        else:
            finished = "revoked" not in previous and previous.get("rotation") == rotation
            rows = self.records("drain", "finish", slot=entry["current"]) if finished else []
        if not deployment.check_mode:
            deployment.take(self.holder, forget=False, take_lock=self.arguments["take_lock"])
            self._release(rows, "aborted" if aborting else "ok")
        deployment.line("open", f"{rotation} had ended, save for its lock, which ends now")
        return {"changed": False, "phase": "ended"}

    def _look(
        self, entry: dict[str, Any], phase: str, memory: dict[str, Any], unfinished: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Refuse what must not be begun. ``unfinished``: what is remembered of an earlier run, where one is taken up."""
        deployment, name = self.deployment, self.name
        info = deployment.catalog_info(
            [name],
            skip_services=self.arguments["skip_services"],
            fingerprint_key=deployment.store.fingerprint_key.hex(),
        )
        facts = self.opened["facts"] = info["credentials"][name]
        facts["role"], stored_role = role_in(facts, entry), entry.get("role")
        if facts["declared_role"] not in ("", facts["role"]):
            raise SecretsError(
                f"secrets_catalog.{name}.role: {facts['declared_role']}, but {entry['role']} was provisioned; "
                f"write role: {entry['role']}, or name a new entry"
            )
        if stored_role:
            entry = {**entry, "role": facts["role"]}
        if facts["siblings"] and phase != "back":
            self._check_alone(facts, entry)
        published = deployment.published(facts, entry)
        replacing = self.arguments["drift"] == "replace"
        if not published and not replacing:
            drifted = [
                place["host"]
                for _host, place in deployment.places(facts)
                if not deployment.published(facts, entry, place)
            ]
            raise self._drift(sorted(facts["variables"].values()), drifted)
        self._server(facts, entry)  # consumers of a server that is down are unhealthy: it is the reason
        logins = self.log_in(facts, entry, "current", "pending")["logins"]
        self.opened["own_refusals"] = sum(login["status"] == "rejected" for login in logins.values())
        restored = self._is_restored(facts, entry, logins)
        if phase == "back" and self._has_no_way_back(logins, facts):
            phase = "forward"
            if not deployment.check_mode:
                self.change(lambda stored: stored["pending"].pop("direction", None))
        if not restored:
            self._check_logins(logins, entry, facts, phase)
            if phase in ("grace", "waits", "revoke", "revoke_first") and logins["current"]["status"] == "rejected":
                # Nobody knows the current value (drift=replace): a new one comes first, and takes the old one's login.
                phase, unfinished = "new", None
            if phase == "grace":
                raise SecretsError(
                    f"{name}: the previous value is in its grace until {entry['previous']['revoke_after']}; "
                    "wait, or end it now: "
                    + report.command(
                        "revoke", revoke=name, **{"confirmed" if facts["type"] == "person" else "end_grace": "true"}
                    )
                )
            if phase == "waits":
                raise SecretsError(f"{name}: {report.to_confirm(name, waits_for(entry['previous']))}")
        stale = [service for service, _change in info["pending_changes"] if service in facts["consumers"]]
        ending = phase in ("revoke", "revoke_first")
        if ending:
            stale += self.outside.stale(entry)
        else:
            self.outside.check(entry)
        skipped = self.skipped(facts)
        if phase == "revoke" and stale and skipped.issuperset(stale) and "step" in unfinished:
            return self._close(entry, self.id)
        if stale and ending and not self.REPLACES_AT_END:
            path = next((one["path"] for one in self.outside.files if one["name"] == stale[0]), "")
            mend = f"copy .env's values into {path} and restart it" if path else ""
            mend = mend or f"docker compose up -d {report.service(stale[0])}"
            raise SecretsError(f"{stale[0]} still has the old value, which is to end; {mend}, then run this again")
        resumable = ("back", "forward", *(("revoke", "revoke_first") if self.REPLACES_AT_END else ()))
        self._refuse(facts, info, resuming=restored or replacing or phase in resumable)
        trial = generate(**facts["generate"]).value  # a rule that cannot be met is refused here
        if restored:
            entry, phase = self._restored(entry), "forward"
            if not deployment.check_mode:
                self.change(lambda stored: (stored.clear(), stored.update(entry)))
        elif entry.get("role") != stored_role and not deployment.check_mode:
            self.change(lambda stored: stored.update(role=facts["role"]))

        user, new_user = self._users(facts, entry)
        resume = ""
        if unfinished is not None:
            resume = f"{self.id}, stopped {self._where(unfinished, facts, stale)}; {RESUMED.get(phase, '')}"
        if phase == "new" and (deployment.check_mode or facts["address"]):
            # What set would refuse is told in the plan, and where somebody else rules the server before anything is done.
            self._would_set({"user": new_user, "password": trial}, entry)
        if deployment.check_mode:
            deployment.show(self._plan(phase, facts, info["project"], user, new_user, resume, memory))
        else:
            if resume:
                deployment.line("open", f"RESUME {resume}")
            accepted = restored or logins["current"]["status"] == "accepted"
            deployment.line("open", f"{self._greeting(user, accepted)}; lock {self.id}")
        found = {
            "hosts": info["hosts"],
            "phase": phase,
        }
        return {"changed": False, **self.opened, **found}

    def _check_alone(self, facts: dict[str, Any], entry: dict[str, Any]) -> None:
        """Refuse to take a login away from another credential of the same server."""
        mine = {facts["role"], entry["current"]["user"], *self._users(facts, entry)}
        for other in facts["siblings"]:
            stored = self.deployment.stored(other)
            slots = [stored[label]["user"] for label in ("current", "pending", "previous") if stored.get(label)]
            shared = mine & {stored.get("role"), *slots}
            if shared:
                raise SecretsError(
                    f"{self.name}: {min(shared)} is a login of {other}, too ({facts['service']}), which would be locked "
                    "out; take one of the two entries out of secrets_catalog"
                )

    def _users(self, facts: dict[str, Any], entry: dict[str, Any]) -> tuple[str, str]:
        """Return what people call the current value, and the one that takes over."""
        user = entry["current"]["user"]
        return user, (entry.get("pending") or {}).get("user") or next_user(facts["role"], user, facts["strategy"])

    def _would_set(self, slot: dict[str, Any], entry: dict[str, Any]) -> None:
        """Raise what ``set`` would refuse."""
        self.credential("present", slot, entry, looking=True)

    def _greeting(self, user: str, accepted: bool) -> str:
        """Return what is known of the current value when a run begins."""
        return f"{user} {'logs in' if accepted else 'is rejected'}"

    @staticmethod
    def _where(unfinished: dict[str, Any], facts: dict[str, Any], stale: list[str]) -> str:
        step, total = unfinished.get("step", "create"), len(facts["consumers"])
        if step in ("publish", "roll_out") and stale:
            return f"in roll out {total - len(stale)}/{total}, {len(stale)} to replace"
        return f"{'in' if 'reason' in unfinished else 'after'} {step.replace('_', ' ')}"

    def _plan(
        self,
        phase: str,
        facts: dict[str, Any],
        project: dict[str, Any],
        user: str,
        new_user: str,
        resume: str,
        memory: dict[str, Any],
    ) -> list[str]:
        last = memory["outcomes"].get(self.name, {})
        if self.opened["purpose"] != "rotate" or phase in ("back", "revoke"):
            disabled = f"; {new_user} is disabled" if facts["strategy"] == "pair" else ""
            going = f"back to {user}{disabled}" if phase == "back" else "the old value ends"
            return report.small_plan(self.name, project, resume, going)
        skipped = self.skipped(facts)
        return report.plan(facts, project, facts["host"], user, new_user, resume, last, skipped)

    def _refuse(self, facts: dict[str, Any], info: dict[str, Any], resuming: bool) -> None:
        """Raise the first reason not to begin; nothing has been touched yet."""
        skipped = self.skipped(facts)
        if facts["literal_user"]:
            service, variable = facts["literal_user"][0], facts["variables"]["user"]
            raise SecretsError(
                f"{service}: its user name is typed into the Compose file and cannot follow an alternating user; "
                f"write ${{{variable}:-{facts['role']}}} there, or set strategy: single_user"
            )
        if facts.get("left_behind"):
            raise SecretsError(facts["left_behind"][0])
        home = self.deployment.home(facts)
        if facts["server_variables"] and [self._label(home, facts["service"]), "recreate"] in info["pending_changes"]:
            raise SecretsError(
                f"docker compose up -d would recreate {facts['service']} now: its first-start variables are not separated "
                "any more (docker-compose.override.yml is lost?); to separate them again: "
                + report.command("provision")
            )
        if facts["server_variables"]:
            # What publish will do first; it is refused here where it would be refused there.
            facts["pin"] = home.would("compose_pin", **self.deployment.pin(facts))["path"]
        if info["image_drift"]:
            raise SecretsError(
                f"{info['image_drift'][0]}; bring the stack to the image you mean first: docker compose up -d"
            )
        # While a rotation is under way its own consumers are stale; nothing else may be.
        expected = set(facts["consumers"]) if resuming else set(skipped)
        for service, change in info["pending_changes"]:
            if service not in expected:
                raise SecretsError(
                    f"{service}: docker compose up -d would {change} it now, without any rotation; {self._mend()} first"
                )
        passed = {"unhealthy", "job_failed"} if resuming else set()
        passed |= {"weak"} if self.arguments["accept_weak"] else set()
        for refusal in facts["plan"]["refusals"]:
            if refusal["kind"] not in passed:
                raise SecretsError(refusal["text"])

    def _mend(self) -> str:
        """Return what brings the running stack in line with its Compose files and ``.env``."""
        for name in self.deployment.arguments["catalog"]:
            if name != self.name and is_unfinished(self.deployment.stored(name)):
                return f"finish the rotation of {name} ({report.command('rotate', rotate=name)})"
        return "bring the running stack in line with its Compose files"

    def _check_logins(self, logins: dict[str, Any], entry: dict[str, Any], facts: dict[str, Any], phase: str) -> None:
        current = logins["current"]
        if current["status"] == "accepted":
            return
        if current["status"] != "rejected":
            raise SecretsError(f"{self.name}: {facts['service']} cannot be asked: {current['reason']}")
        # In place the pending value has taken the current one's place; elsewhere it is the way forward, not back.
        way_on = phase == "forward" or facts["strategy"] == "single_user"
        if way_on and logins.get("pending", {}).get("status") == "accepted":
            return
        user = entry["current"]["user"]
        if phase == "back":
            drift = "" if logins["pending"]["status"] == "accepted" else "replace"
            raise SecretsError(
                f"{self.name}: {facts['service']} rejects {user}, so there is no way back; on to the new value: "
                + report.command("rotate", rotate=self.name, drift=drift)
            )
        if self.arguments["drift"] != "replace":
            raise SecretsError(
                f"DRIFT {self.name}: {facts['service']} rejects the store's value for {user}; "
                f"somebody changed it by hand, or the server is an older copy. {changed_by_hand(self.name)}"
            )

    def _has_no_way_back(self, logins: dict[str, Any], facts: dict[str, Any]) -> bool:
        """Tell whether a rotation that was going back has to go forward: somebody has changed the old value meanwhile."""
        if self.opened["purpose"] != "rotate" or facts["strategy"] != "pair":
            return False
        onward = logins["pending"]["status"] == "accepted" or self.arguments["drift"] == "replace"
        return logins["current"]["status"] == "rejected" and onward

    def _is_restored(self, facts: dict[str, Any], entry: dict[str, Any], logins: dict[str, Any]) -> bool:
        """Tell whether the server is an older copy: of all that the store knows, it accepts a value alone that was dead.

        Where the previous value has not ended yet, somebody may as well have changed the current one by hand.
        """
        if self.opened["purpose"] != "rotate" or not entry.get("previous") or old_value(entry):
            return False
        if {login["status"] for login in logins.values()} != {"rejected"}:
            return False
        status = self.log_in(facts, entry, "previous")["logins"]["previous"]["status"]
        self.opened["own_refusals"] += status == "rejected"
        return bool(status == "accepted")

    def _restored(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the entry of a server that was restored: the current value has to be set there again."""
        user, old = entry["current"]["user"], entry["previous"]["user"]
        self.deployment.line("open", f"RESTORED: the server rejects {user} and accepts {old}, the value before it")
        before = {key: entry["previous"][key] for key in ("user", "password", "created")}
        kept = {key: value for key, value in entry.items() if key != "previous"}
        # What was on its way is no login there any more, but .env may hold it.
        if entry.get("pending"):
            kept["dropped"] = entry["pending"]
        return {**kept, "current": before, "pending": {**entry["current"], "rotation": self.id}}

    # -- forward

    def create(self) -> dict[str, Any]:
        """Generate the value and write it durably, before any service sees it."""
        entry = self.entry()
        if entry.get("pending"):
            self.deployment.line("create", "stored value reused")
            return {"changed": False}
        pending = {
            "user": next_user(entry["role"], entry["current"]["user"], self.facts["strategy"]),
            "password": generate(**self.facts["generate"]).value,
            "created": now().isoformat(),
            "rotation": self.id,
        }

        def add(stored: dict[str, Any]) -> None:
            stored["pending"] = pending
            # The server's own superuser loses its password with the first rotation: another way in comes before.
            if self.facts["strategy"] == "pair" and not stored.get("admin") and not self.facts["address"]:
                ours = {"user": f"{self.facts['first_user']}_admin", "password": generate().value}
                stored["admin"] = self._administrator(self.facts, entry) or ours

        self.change(add)
        self.deployment.line("create", "value stored")
        return {"changed": True}

    def set(self) -> dict[str, Any]:
        """Make the server accept the new value beside the current one."""
        entry = self.entry()
        pending, user = self.slot(entry, "pending"), entry["current"]["user"]
        begun = () if self.opened["phase"] == "forward" else ("open", "create")
        result = self.credential("present", pending, entry, ledger=self.records(*begun, "set", slot=pending))
        if self.facts["strategy"] == "pair":
            self._say("set", f"{pending['user']} accepted beside {user}")
        else:
            self._say("set", f"{user} has the new password; the old one is refused from now on")
        return {"changed": result["changed"], "login": result["login"]}

    def _publish(self, label: str, *replaced: str, **arguments: Any) -> list[dict[str, Any]]:
        """Have every ``.env``, and the files outside Compose, hold a slot's values; those of the slots ``replaced`` go."""
        entry = self.entry()
        slots = [self.slot(entry, label), *[entry[other] for other in (*replaced, "dropped") if entry.get(other)]]
        deployment, facts = self.deployment, self.facts
        writes = [
            (
                host,
                {
                    "path": place["env_file"],
                    "values": deployment.env_values(facts, entry, slots[0], place),
                    "uris": deployment.uris(facts, entry, slots[0], place),
                },
            )
            for host, place in deployment.places(facts)
        ]
        self.outside.publish(slots, trial=True)
        with self._naming_drift():
            results = deployment.publish(
                writes,
                replaces={} if self.arguments["drift"] == "replace" else self._known(*slots),
                fingerprint_key=deployment.store.fingerprint_key.hex(),
                holder=self.holder,
                **arguments,
            )
        return [*results, *self.outside.publish(slots)]

    def _known(self, *slots: dict[str, Any]) -> dict[str, list[str]]:
        """Return the fingerprints of slots' values by variable."""
        values = [self.deployment.slot_values(self.facts, slot) for slot in slots]
        fingerprint = self.deployment.store.fingerprint
        return {variable: [fingerprint(one[variable]) for one in values] for variable in values[0]}

    @contextlib.contextmanager
    def _naming_drift(self) -> Iterator[None]:
        try:
            yield
        except SecretsError as error:
            if not error.details.get("foreign"):
                raise
            raise self._drift(error.details["foreign"], [error.details["host"]]) from None

    def _drift(self, variables: list[str], hosts: list[str]) -> SecretsError:
        where = f" on {' and '.join(hosts)}" if self.deployment.is_spread else ""
        return SecretsError(
            f"DRIFT {self.name}: .env{where} holds another {' or '.join(variables)} than the store; "
            f"to put the store's value back: {report.command('provision', drift='replace')}; "
            f"to take .env's value over: {report.command('adopt', accept=self.name)}"
        )

    def test(self) -> dict[str, Any]:
        """Look at the login over the consumers' network, in every database, that ``set`` has tried last."""
        entry = self.entry()
        user = self.slot(entry, "pending")["user"]
        login = self.arguments["accepted"]["login"]
        if login["status"] != "accepted":
            raise SecretsError(f"{user} is not accepted: {login['reason']}")
        for database, seen in login.get("databases", {}).items():
            if seen["current_user"] != entry["role"]:
                raise SecretsError(
                    f"{user} works as {seen['current_user']} in {database}, not as {entry['role']}; "
                    "its membership lacks the SET option"
                )
        self._say("test", f"{user} logs in; sees what {entry['role']} sees")
        return {"changed": False}

    def publish(self) -> dict[str, Any]:
        """Write user name and password to .env together."""
        self._separate()
        pending, files = self.slot(self.entry(), "pending"), self.outside.followed
        if files:
            # From here on a way back leads through the commands, too.
            self.note([], outside=True)
        results = self._publish("pending", "current", ledger=self.records("test", "publish", slot=pending))
        changed = any(result["changed"] for result in results)
        what = "1 file" if len(results) == 1 else f"{len(results)} files"
        if self.deployment.is_spread:
            hosts = [place["host"] for _host, place in self.deployment.places(self.facts)]
            hosts += [one["host"] for one in files if one["host"]]
            what += f", on {', '.join(dict.fromkeys(hosts))}"
        self.deployment.line("publish", what if changed else f"{what}, written before")
        return {"changed": changed}

    def _separate(self) -> None:
        """Have the server read values of its own: those in use, since the new one would recreate it.

        Store, ``.env``, override: a run that was killed between any two finds the server's variables shared, nothing
        else changed, and does it all again.
        """
        facts, deployment = self.facts, self.deployment
        if not facts["server_variables"]:
            return
        init = deployment.first_start(facts, self.slot(self.entry(), "current"))
        self.change(lambda stored: stored.update(init={**stored.get("init", {}), **init}))
        [(home, place)] = [one for one in deployment.places(facts) if one[0].name == facts["host"]]
        deployment.publish([(home, {"path": place["env_file"], "values": init})], holder=self.holder)
        result = home.module("compose_pin", **deployment.pin(facts), holder=self.holder)
        if result["changed"]:
            what = f"{os.path.basename(result['path'])}: pins {facts['service']}'s first-start values"
            deployment.line("publish", what, home.name)

    def roll_out(self) -> dict[str, Any]:
        """Replace the stale consumers in waves, each verified before its old container goes."""
        replaced = self._replace("roll_out", "pending")
        self.outside.run("roll_out", self.slot(self.entry(), "pending"))
        return {
            "changed": any(result["changed"] for _host, result in replaced),
            "gaps": {
                self._label(host, name): done["gap_s"]
                for host, result in replaced
                for name, done in result["services"].items()
                if done.get("gap_s")
            },
            "addresses": {host.name: result["addresses"] for host, result in replaced},
        }

    def _say(self, step: str, text: str) -> None:
        """Show a line of a step that is done where the server is."""
        self.deployment.line(step, text, self.facts["host"])

    def _label(self, host: Host, service: str) -> str:
        return f"{host.name}/{service}" if self.deployment.is_spread else service

    def _replace(self, step: str, label: str) -> list[tuple[Host, dict[str, Any]]]:
        """Replace the stale consumers, host after host or as many at once as configured; returns what was done on each."""
        at_once = self.arguments["rollout"].get("hosts") or 1
        left = [(host, place) for host, place in self.deployment.places(self.facts) if place["consumers"]]
        done: list[tuple[Host, dict[str, Any]]] = []
        with self.deployment.kept(self.holder):
            while left:
                now_on, left = left[:at_once], left[at_once:]
                of = {host.name: place for host, place in now_on}
                hosts = [host for host, _place in now_on]
                results = everywhere(hosts, lambda host, of=of: self._replace_on(host, of[host.name], step, label))
                done += zip(hosts, results, strict=True)
        return done

    def _replace_on(self, host: Host, place: Place, step: str, label: str) -> dict[str, Any]:
        """Replace the stale consumers of one host; its ``.env`` has to hold that slot's values all the while."""
        skipped = self.skipped(self.facts)
        services = [name for name in place["consumers"] if self._label(host, name) not in skipped]
        published = {variable: known[0] for variable, known in self._known(self.slot(self.entry(), label)).items()}
        masked = [variable for part, variable in self.facts["variables"].items() if part != "user"]
        return self._compose_rollout(host, place, step, services, published, masked)

    def _compose_rollout(
        self, host: Host, place: Place, step: str, services: list[str], published: dict[str, str], masked: list[str]
    ) -> dict[str, Any]:
        """Replace services of one host, where they are stale; its ``.env`` has to hold what was ``published``."""
        folder = os.path.join(host.state_dir, "runs", self.id)
        progress = os.path.join(folder, f"{step}-{time.time():.2f}.jsonl")
        options = self._options(host.arguments["services"], place["consumers"])
        if self.deployment.is_spread:
            options = {name: given for name, given in options.items() if name in place["consumers"]}
        rollout = {key: value for key, value in self.arguments["rollout"].items() if key != "hosts"}
        with self._naming_drift(), ProgressReader(self.deployment, progress, step, host):
            return host.module(
                "compose_rollout",
                **host.project(),
                services=services,
                options=options,
                mask_variables=masked,
                fingerprints=published,
                fingerprint_key=self.deployment.store.fingerprint_key.hex(),
                accept_weak=self.arguments["accept_weak"],
                log_dir=folder,
                progress=progress,
                state_dir=host.state_dir,
                holder=self.holder,
                ledger=self.records(step, state="replaced"),
                **rollout,
            )

    def _options(self, declared: dict[str, Any], consumers: list[str]) -> dict[str, Any]:
        """Return the exceptions for the services, of which the consumers are replaced."""
        return declared

    def drain(self) -> dict[str, Any]:
        """Wait until no session uses the old value; name whoever still does."""
        entry = self.entry()
        if entry.get("pending"):
            old, new = entry["current"]["user"], entry["pending"]["user"]
        else:
            old, new = self.slot(entry, "previous")["user"], entry["current"]["user"]
        if self.facts["strategy"] == "single_user":
            self._say("drain", "one user: sessions cannot tell the values apart")
            return {"changed": False}
        skipped = self.skipped(self.facts)
        who = clients(self.facts, self.opened["hosts"], self.arguments["rolled"].get("addresses") or {}, skipped)
        # Who was skipped goes on with the old value, so that there is nothing to wait for.
        wait = {**DRAIN, **{key: value for key, value in self.arguments["drain"].items() if value is not None}}
        # A person may go on with the old value until it ends, and so may whoever was skipped outside Compose.
        others = {one["name"] for one in self.outside.files} & skipped or self.facts.get("persons")
        tolerant = bool(others and entry.get("pending"))
        timeout = wait["quiet" if skipped or tolerant else "timeout"]
        # Whoever waits is at work: the lock is kept meanwhile, however long that takes.
        held = {"state_dir": self.deployment.home(self.facts).state_dir, "holder": self.holder}
        wanted = {"idle_user": old, "idle_for": wait["quiet"], "timeout": timeout}
        ends = boot_seconds() + wait["timeout"]
        while True:
            with self.deployment.kept(self.holder):
                info = self.credential_info(self.facts, entry, **wanted, **held)
            using: dict[str, set[str]] = {old: set(), new: set()}
            for session in info["sessions"]:
                if session["user"] in using:
                    address = session["address"] or "the server's own socket"
                    using[session["user"]].add(who.get(address, address))
            left = using[old] - skipped
            theirs = left - (set(who.values()) - {self.facts["host"]}) if tolerant else set()
            left -= theirs
            if not (tolerant and left) or boot_seconds() > ends:
                break
        if theirs:
            self._say("drain", f"{_listed(theirs)} may go on with {old} until it ends: no consumer's address")
        busy = left or not (info["idle"] or skipped or tolerant)
        if busy and self.arguments["end_sessions"]:
            self._say("drain", f"{old} is still used by {_listed(left)}: its sessions end at revoke")
        elif busy:
            mend = "end that session"
            if self.deployment.is_spread:
                # A host that was cut off leaves sessions which nobody uses; the server does not know for hours.
                mend += ", or, where it is one that a host has left which was cut off: -e end_sessions=true"
            raise SecretsError(f"{old} is still used by {_listed(left)}; {mend}")
        consumers = [name for name in self.facts["consumers"] if name not in skipped]
        seen = [name for name in consumers if name in using[new]]
        unseen = len(consumers) - len(seen)
        text = f"{len(seen)} of {len(consumers)} on {new}; {len(using[old])} sessions on {old}"
        why = "no session now"
        hidden = sorted(using[new] - set(consumers) & set(who.values())) if self.deployment.is_spread else []
        if hidden:
            why += f", or behind {', '.join(hidden)}"
        self._say("drain", text + (f" ({unseen} unseen: {why})" if unseen else ""))
        return {"changed": False}

    def finish(self) -> dict[str, Any]:
        """The new value becomes the current one, durably; the old one is kept until it is dead."""
        skipped = self.arguments["skip_services"]
        revoke_after = self._revoke_after()
        ends = {"revoke_after": revoke_after} if revoke_after else {}
        waits = {"waits_for": self.facts["persons"]} if self.facts.get("persons") else {}

        def move(stored: dict[str, Any]) -> None:
            pending = self.slot(stored, "pending")
            if pending.get("direction") == "back":
                raise SecretsError(f"{self.name}: another run is going back from {self.id}; see status.yml")
            stored["previous"] = {**stored["current"], "rotation": self.id, **ends, **waits}
            stored["current"] = pending
            del stored["pending"]
            stored.pop("dropped", None)

        # Who was skipped still has the old value.
        ends_here = not ends and not skipped and not waits
        entry, tried = self.entry(), 0
        foreign = self.facts["strategy"] == "pair" and entry["current"]["user"] != entry["role"]
        if self.arguments["drift"] == "replace" and foreign and not ends_here:
            tried = self._end_owner({**entry, "current": self.slot(entry, "pending")})
        self.change(move)
        if not ends_here:
            done = self.records("drain", "finish", slot=self.entry()["current"])
            self._end(done, self._count_refused(tried), revoke_after=revoke_after)
        return {"changed": True, "revoke": ends_here}

    def _revoke_after(self) -> str:
        """Return from when on the old value may be ended by another run; nothing where this run ends it."""
        grace = self.facts["grace"]
        return (now() + datetime.timedelta(seconds=grace)).isoformat() if grace else ""

    def revoke(self) -> dict[str, Any]:
        """End the old value and its sessions; see it refused."""
        entry = self.entry()
        previous = self.slot(entry, "previous")
        ours = previous["rotation"] == self.id
        done = self.records("drain", "finish", slot=entry["current"]) if ours else []
        done += self.records("revoke", slot=previous)
        foreign = ""
        if self.facts["strategy"] == "pair":
            since = {"refused_since": self._began_at, "own_refusals": self._own_refusals}
            ended = self._disable("revoke", previous, entry, ledger=done, **since)
            refused, tried = ended["refused_logins"], _tried(ended)
            if ended["owner_password"] and self.arguments["drift"] == "replace":
                tried += self._end_owner(entry)
            elif ended["owner_password"]:
                foreign = f"{entry['role']} has a password that is not the store's"
        else:
            login = self.log_in(self.facts, entry, "previous")["logins"]["previous"]
            if login["status"] != "rejected":
                raise SecretsError(f"the old password of {previous['user']} is {login['status']}, not rejected")
            refused, tried = self._count_refused(tried=1), 1
            self.note(done)
        refused_at = report.clock()
        self.change(lambda stored: stored["previous"].update(revoked=now().isoformat()))
        self._say("revoke", "old password refused over the network")
        if foreign:
            replace = report.command("rotate", rotate=self.name, drift="replace")
            self._say("revoke", f"{foreign}; to end it: {replace}")
        if ours or self.opened["purpose"] == "revoke":
            self._end([], refused, refused_at=refused_at)
        return {"changed": True, "own_refusals": tried}

    def _end_owner(self, entry: dict[str, Any]) -> int:
        """End a password of the owner that no store knows; returns how many of our own logins were refused for it."""
        slot = {"user": entry["role"], "password": generate().value}
        ledger = self.records("revoke", state=f"{slot['user']} ended")
        return _tried(self._disable("revoke", slot, entry, ledger=ledger))

    @property
    def _began_at(self) -> int:
        """When this run began, by the clock of the host whose log is searched for refused logins."""
        return int(self.opened["clocks"][self.facts["host"]]["wall"])

    @property
    def _own_refusals(self) -> int:
        """How many of this run's own logins were refused so far: at *open*, and when an earlier value was ended."""
        return int(self.opened["own_refusals"] + self.arguments["ended"].get("own_refusals", 0))

    def _count_refused(self, tried: int = 0) -> int | None:
        """Return how many logins were refused in this run; what was tried on purpose is left out."""
        own = self._own_refusals + tried
        since = self._began_at
        try:
            info = self.credential_info(self.facts, self.entry(), refused_since=since, own_refusals=own)
        except SecretsError:
            # All is done; that nobody could count must not undo it.
            return None
        return info["refused_logins"]

    def _end(
        self, ledger: list[dict[str, Any]], refused: int | None, refused_at: str = "", revoke_after: str = ""
    ) -> None:
        """End the lock and show what the run ends with."""
        entry, deployment = self.entry(), self.deployment
        due = datetime.datetime.fromisoformat(entry["current"]["created"]) + datetime.timedelta(
            seconds=self.facts["interval"]
        )
        outcome = {
            "word": "REVOKED" if self.opened["purpose"] == "revoke" else "ROTATED",
            "seconds": round(boot_seconds() - self.opened["began"], 1),
            "refused": refused,
            "gaps": self.arguments["rolled"].get("gaps", {}),
            "skipped": sorted(self.skipped(self.facts)),
            "refused_at": refused_at,
            "revoke_after": revoke_after,
            "waits_for": waits_for(old_value(entry) or {}),
            "due": due.date().isoformat(),
        }
        rotated = self.opened["purpose"] == "rotate" and self.opened["phase"] in ("new", "forward", "revoke_first")
        measured = {key: outcome[key] for key in ("seconds", "gaps")} if rotated else {}
        home = self.facts["host"]
        clock = self._release(ledger, "ok", **measured)["clocks"][home]
        moved = {name: clock[name] - before for name, before in self.opened["clocks"][home].items()}
        if abs(moved["wall"] - moved["boot"]) > CLOCK_SLACK:
            # The log was searched from a moment that the clock, which was set meanwhile, does not know any more.
            outcome["refused"] = None
        deployment.show(self._summary(entry, outcome), color="green")

    def _summary(self, entry: dict[str, Any], outcome: dict[str, Any]) -> list[str]:
        return report.summary(self.facts, self.called(entry["current"]), outcome)

    # -- back

    def back(self) -> dict[str, Any]:
        """Return to the current value everywhere and retire the new one; say what that means for the services."""
        deployment, entry = self.deployment, self.entry()
        record = deployment.state("read", rotation=self.id)["record"]
        step, reason = record.get("step", "open"), record.get("reason", "the run was interrupted")
        pending, user = entry.get("pending"), self.called(entry["current"])
        aborting = self.opened["purpose"] == "abort"
        turned = aborting or (pending or {}).get("direction") == "back"
        details = []
        try:
            if not pending:
                working = f"working, on {user}"
                rerun = "ends the old value" if old_value(entry) else "starts again"
                self._release(self.records(step, state="stopped"), f"STOPPED at {step}")
            elif step in ("drain", "finish") and not turned:
                # The new value works everywhere; going back for one foreign session would harm more than it helps.
                deployment.release(self.holder, forget=False)
                working = f"working, on {self.called(pending)}"
                if self.facts["strategy"] == "pair":
                    working += f"; {user} stays valid too"
                rerun = "looks again"
                # The way back needs what this run was given.
                given = {"skip_service": ",".join(self.arguments["skip_services"])}
                given["accept_weak"] = "true" if self.arguments["accept_weak"] else ""
                details = [("Go back", report.command("abort", rotate=self.name, **given))]
            elif not turned and self._current_is_dead(entry):
                deployment.release(self.holder, forget=False)
                working = f"whoever was replaced works on {self.called(pending)}; nobody is sent back: "
                working += self._why_dead(user)
                rerun = "goes on with the same new password"
            else:
                self._go_back(pending, step)
                consumers = len(self.facts["consumers"]) + len(self.outside.files)
                working = f"working: {consumers} of {consumers} back on the old, valid password."
                working += " Nothing is locked out."
                rerun = self.AGAIN
        except SecretsError as error:
            aborting = False
            if pending:
                step, reason = "back", f"{error.message} (going back after {step}: {reason})"
                working = f"{user} is valid; not every service may be back on it yet"
                going_back = (self.entry().get("pending") or {}).get("direction") == "back"
                rerun = "goes on going back" if going_back else "goes on with the same new password"
            else:
                reason = f"{reason}; and then: {error.message}"
        if aborting:
            deployment.show(report.aborted(self.name, step, user, working), color="green")
            return {"changed": True}
        details = [("Services", working), ("Rerun", rerun), *details]
        return self._stopped(step, reason, details, record, changed=bool(pending))

    def _stopped(
        self, step: str, reason: str, details: list[tuple[str, str]], record: dict[str, Any], changed: bool
    ) -> dict[str, Any]:
        """Show why a run has stopped, and what that means; returns its result."""
        if record.get("log"):
            details = [*details, ("Look", f"{record.get('host') or self.deployment.host}:{record['log']} (masked)")]
        self.deployment.show(report.stopped(self.name, step, reason, details), color="red")
        return {
            "changed": changed,
            "failed": True,
            "msg": f"{self.name}: stopped; why, and what to do: the block STOPPED above",
        }

    def _current_is_dead(self, entry: dict[str, Any]) -> bool:
        """Tell whether the value to go back to is one that the server rejects; in place it is set again."""
        if self.facts["strategy"] != "pair":
            return False
        with contextlib.suppress(SecretsError):
            return self.log_in(self.facts, entry, "current")["logins"]["current"]["status"] == "rejected"
        return False

    def _why_dead(self, user: str) -> str:
        """Return why nobody is sent back to the current value."""
        return f"the server rejects {user}, which somebody has changed"

    def _go_back(self, pending: dict[str, Any], step: str) -> None:
        self.note(self.records(step, state="going back", slot=pending), step=step)
        self.change(lambda stored: stored["pending"].update(direction="back"))
        entry = self.entry()
        if self.facts["strategy"] == "single_user":
            # In place there is no second login: the old password has to be set again before anybody goes back to it.
            self.credential("present", entry["current"], {**entry, "current": pending})
        self._publish("current", "pending")
        self._replace("back", "current")
        self.outside.run("back", self.slot(entry, "current"))
        if self.facts["strategy"] == "pair":
            self._disable("back", pending, entry)
        self.change(lambda stored: (stored.pop("pending"), stored.pop("dropped", None)))
        aborting = self.opened["purpose"] == "abort"
        self._release(self.records("back", slot=pending), "aborted" if aborting else f"STOPPED at {step}")

    def _disable(self, step: str, slot: dict[str, Any], entry: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """End a login and its sessions; what somebody else has done to it meanwhile is said."""
        result = self.credential("absent", slot, entry, **arguments)
        for action in result["actions"]:
            if "somebody else" in action:
                self._say(step, f"{slot['user']}: the {action} is dead too")
        return result

    # -- failures

    def unreachable(self, step: str, error: AnsibleConnectionFailure) -> str:
        """Say what it means that the connection to a host is lost; returns it in a line."""
        deployment = self.deployment
        reason = str(error if isinstance(error, Unreachable) else Unreachable(deployment.host, str(error)))
        others = [one for one in getattr(error, "others", []) if isinstance(one, SecretsError)]
        failed = others[0] if others and step != "open" else None
        if failed:
            self.remember(step, failed)
        if step == "open":
            begin = "before create" if self.arguments["purpose"] == "rotate" else "at open"
            return f"STOPPED {begin}: {reason}. Nothing was changed."
        rerun = "goes on where this run stopped; what still works on the target is waited for"
        services = self._unreached(step)
        if failed and failed.details.get("service"):
            broken = f"{failed.details['host']}/{failed.details['service']}"
            services = f"{broken} may not work; the others: {services}"
        fields = [("Services", services), ("Rerun", rerun)]
        deployment.show(report.stopped(self.name, step, reason, fields), color="red")
        return reason

    def _unreached(self, step: str) -> str:
        """Return what the services have while the target cannot be reached."""
        if self.facts["strategy"] == "single_user" and step != "create":
            return "those that do not have the new password yet may be refused"
        return UNREACHED[step]

    def remember(self, step: str, error: SecretsError) -> None:
        """Have the target remember why a step failed, for the block that ``back`` shows."""
        # Where it cannot, the first error is the one to show; it is this task's message in any case.
        with contextlib.suppress(SecretsError, AnsibleConnectionFailure):
            failed = self.records(step, state="failed")
            where = {"log": error.details.get("log") or "", "host": error.details.get("host") or ""}
            self.note(failed, step=step, reason=error.message, **where)


def _tried(ended: dict[str, Any]) -> int:
    """Return how many logins were refused for their password when a value was ended: our own."""
    return int("password authentication failed" in ended["refused"])


def _listed(users: set[str]) -> str:
    return ", ".join(sorted(users)) or "sessions that come and go"


def _login(slot: dict[str, Any]) -> dict[str, Any]:
    return {"user": slot["user"], "password": slot["password"]}
