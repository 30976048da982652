# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rotation of a JWT signing key: one phase a run, by the steps of the rotation protocol.

A phase is one publication and one roll-out. Before anything moves, the store holds in ``target`` the slots as they are
to be; ``current``, ``next``, ``previous`` stay the way back until the last service was replaced. There is no server, so
the steps *set*, *test*, *drain* and *revoke* have nothing to do.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import is_placeholder
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import checked_catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.jwt import DERIVED, SYMMETRIC, Policy, policy_of
from ansible_collections.chat4all.secrets.plugins.module_utils.state import boot_seconds
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys, jwt_schedule, report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment, now
from ansible_collections.chat4all.secrets.plugins.plugin_utils.hosts import Host, everywhere
from ansible_collections.chat4all.secrets.plugins.plugin_utils.jwt_schedule import EMERGENCY
from ansible_collections.chat4all.secrets.plugins.plugin_utils.placing import Place
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import Rotation, record_of, untested

# The parts of a key's variables that a phase changes: those who use none of them are left alone.
CHANGED = {
    "introduce": ("secondary", "jwks"),
    "promote": ("key", "kid", "secondary"),
    "retire": ("secondary", "jwks"),
    EMERGENCY: ("key", "kid", "secondary", "jwks"),
}
ENDED = {"introduce": "INTRODUCED", "promote": "PROMOTED", "retire": "RETIRED", EMERGENCY: "REPLACED"}
SECRET_PARTS = ("key", "secondary")
# Seconds that may pass between a look at a host's clock and one at ours.
CLOCK_SLACK = 60

# What a play may ask of signing keys.
JWT_OPTIONS: dict[str, Any] = {
    "type": "dict",
    "default": {},
    "options": {
        "phase": {"type": "str", "choices": ["", *jwt_schedule.PHASES], "default": ""},
        "emergency": {"type": "bool", "default": False},
        "accept_invalid_tokens": {"type": "bool", "default": False},
    },
}


def phase_services(place: Mapping[str, Any], phase: str) -> list[str]:
    """Return the services of a host that a phase replaces; ``place``: what the host has of the key."""
    parts = set(CHANGED[phase]) & set(place["used_by"])
    # A second key that the phase swaps with the first one is the same change for who uses both.
    return sorted({service for part in parts for service in place["used_by"][part]})


def roll_out_order(place: Mapping[str, Any], phase: str) -> tuple[list[str], list[str]]:
    """Return the services of a phase in the two groups that are replaced one after the other, on all hosts.

    Nobody signs with a key before the others verify with it: who signs comes last where a key is new to all, and first
    where it was introduced before.
    """
    services = phase_services(place, phase)
    signing = [name for name in services if name in place["signers"]]
    others = [name for name in services if name not in place["signers"]]
    return (signing, others) if phase == "promote" else (others, signing)


def policy_in(deployment: Deployment, name: str) -> Policy:
    """Return the policy of a key of a deployment; raises for a catalog that cannot be meant."""
    return policy_of(name, checked_catalog(deployment.arguments["catalog"])[name])


def drifted(deployment: Deployment, facts: dict[str, Any], entry: Mapping[str, Any]) -> list[str]:
    """Return the hosts whose ``.env`` holds other keys than the store."""
    return [host.name for host, place in deployment.places(facts) if not deployment.published(facts, entry, place)]


def about_weak(name: str, entry: Mapping[str, Any]) -> str:
    """Return what is said of a key in use that others may know or find."""
    at_once = report.command("rotate_jwt", rotate=name, emergency="true")
    return f"{name}: its key {entry['current']['weak']}; rotate-jwt.yml begins to replace it now; at once: {at_once}"


def other_algorithm(facts: dict[str, Any], entry: Mapping[str, Any]) -> str:
    """Return what is wrong where the key in use is a shared one and the catalog wants a pair, or the other way round."""
    algorithm = entry["current"].get("algorithm", facts["algorithm"])
    if (algorithm in SYMMETRIC) == (facts["algorithm"] in SYMMETRIC):
        return ""
    return (
        f"secrets_catalog.{facts['name']}.algorithm: the key in use is one for {algorithm}; keep that, and make the other "
        "algorithm an entry of its own"
    )


def spare_key(algorithm: str, date: str) -> dict[str, str]:
    """Return a key that nobody signs with: an empty one in its place may be accepted, and anybody can sign with that."""
    return {**jwt_keys.make(algorithm), "user": "spare", "created": date}


def first_entry(facts: dict[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
    """Return the entry of a key that the store does not have yet: the one in use, else a new one."""
    algorithm, variables = facts["algorithm"], facts["variables"]
    date = now().isoformat()
    given = found.get(variables["key"], "")
    in_use = any(place["in_use"] for place in facts["places"])
    if in_use and not given:
        raise SecretsError(
            f"{facts['name']}: its services run already, but .env holds no {variables['key']}; put the key that they "
            "were started with there"
        )
    if not in_use and (not given or is_placeholder(given)):
        entry = {"engine": "jwt", "current": {**jwt_keys.make(algorithm), "created": date}}
        if algorithm in SYMMETRIC:
            entry["spare"] = spare_key(algorithm, date)
        return entry
    try:
        document = found.get(variables.get("jwks", ""), "")
        # Of several hosts the first need not be one that signs.
        ids = [place["variables"]["kid"] for place in facts["places"] if "kid" in place["variables"]]
        kid = found.get(ids[0], "") if ids else ""
        current = {**jwt_keys.imported(given, algorithm, document, kid), "created": date, "imported": True}
        beside = jwt_keys.others(given, algorithm, document)
    except SecretsError as error:
        raise SecretsError(f"{facts['name']}: {variables['key']}: {error.message}") from None
    if kid and kid != current["user"]:
        raise SecretsError(
            f"{facts['name']}: .env's {ids[0]} is {kid}, and the JWKS document has that key as {current['user']}; make them "
            "the same"
        )
    entry = {"engine": "jwt", "current": current}
    if document:
        entry["document"] = document
    if beside:
        # Their private keys are nobody's here: they are verified with until the last of their tokens is dead.
        entry["previous"] = {"user": beside[0], "password": "", "created": date, "imported": True, "replaced": date}
    second = found.get(variables.get("secondary", ""), "")
    if second and second == given:
        entry["spare"] = {"user": "spare", "password": second, "created": date}
    elif second:
        # Whatever it is, a new one that was never promoted or an old one: nobody signs with it now.
        previous = {**jwt_keys.imported(second, algorithm), "created": date, "imported": True}
        entry["previous"] = {**previous, "replaced": date}
    return entry


class JwtRotation(Rotation):
    """One phase of one signing key."""

    @property
    def policy(self) -> Policy:
        """The policy that the catalog declares."""
        return policy_in(self.deployment, self.name)

    @property
    def phase(self) -> str:
        """The phase that this run carries out."""
        return str(self.opened["jwt_phase"])

    def slot(self, entry: dict[str, Any], label: str) -> dict[str, Any]:
        """Return what this run is about: the slots that it aims at."""
        target = super().slot(entry, label)
        if target["rotation"] != self.id:
            raise SecretsError(f"{self.name}: another run has begun {target['phase']}; see status.yml")
        return target

    def log_in(self, facts: dict[str, Any], entry: dict[str, Any], *labels: str, **arguments: Any) -> dict[str, Any]:
        return untested(entry, *labels)

    def records(self, *steps: str, state: str = "done", slot: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        phase = self.opened.get("jwt_phase")
        rows = super().records(*steps, state=state, slot=slot)
        return [{**row, "phase": phase} for row in rows] if phase else rows

    # -- open

    @property
    def _forced(self) -> str:
        """The phase that the user wants now; empty where the dates decide."""
        given = self.arguments["jwt"]
        return EMERGENCY if given.get("emergency") else given.get("phase") or ""

    def check_options(self) -> None:
        given = self.arguments["jwt"]
        if self.arguments["skip_services"]:
            raise SecretsError(
                f"{self.name}: skip_service is not for signing keys: whoever is skipped would reject the others' tokens"
            )
        if given.get("emergency") and given.get("phase"):
            raise SecretsError(f"{self.name}: emergency replaces the key at once, without phases; leave jwt_phase out")

    def open(self) -> dict[str, Any]:
        """Find the one phase that is due, look at everything and touch nothing; take the lock."""
        deployment, purpose = self.deployment, self.arguments["purpose"]
        deployment.require_discretion()
        entry, memory = deployment.entry(self.name), deployment.memory()
        target = entry.get("target") or {}
        if purpose == "revoke":
            deployment.line("open", f"{self.name}: an old key is ended by rotate-jwt.yml; " + self._next(entry))
            return {"changed": False, "phase": "new"}
        left = {} if target else record_of(self.name, memory)
        finished = bool(left) and left["rotation"] == entry.get("ended")
        if finished or (left and purpose == "abort"):
            self._end_lock(left, finished)
            deployment.line("open", f"{left['rotation']} had ended, save for its lock, which ends now")
            wanted = "" if purpose == "abort" else self._forced
            if not wanted or wanted == EMERGENCY == left.get("phase"):
                return {"changed": False, "phase": "ended"}
            left = {}
        phase = self._choose(entry, target, purpose)
        if not phase:
            if left:
                self._end_lock(left)
            deployment.line("open", f"{self.name}: nothing is due; " + self._next(entry))
            return {"changed": False, "phase": "ended"}
        held = target.get("rotation") if target.get("phase") == phase else None
        self.opened = {
            "rotation": held or f"r-{secrets.token_hex(2)}",
            "purpose": purpose,
            "began": boot_seconds(),
            "jwt_phase": phase,
        }
        if purpose != "abort" and phase != EMERGENCY:
            self._check_clocks(memory["clocks"])

        def look(memory: dict[str, Any]) -> dict[str, Any]:
            return self._look_at(entry, bool(held), record_of(self.name, memory) if held else {})

        return self._locked(look, bool(held), phase=phase)

    def _choose(self, entry: dict[str, Any], target: dict[str, Any], purpose: str) -> str:
        forced = self._forced
        if purpose == "abort":
            if not target:
                raise SecretsError(f"{self.name}: there is nothing to go back from; status.yml shows where it stands")
            return str(target["phase"])
        if target and forced not in ("", EMERGENCY, target["phase"]):
            raise SecretsError(
                f"{self.name}: {target['phase']} is unfinished; finish it first: {report.command('rotate_jwt')}"
            )
        if forced == EMERGENCY or target:
            return forced or str(target["phase"])
        accept = bool(self.arguments["jwt"].get("accept_invalid_tokens"))
        return jwt_schedule.chosen(entry, self.policy, now(), forced, accept)

    def _check_clocks(self, clocks: dict[str, dict[str, float]]) -> None:
        """Refuse to go by a clock that is wrong: by its dates live tokens would become invalid."""
        for host, clock in clocks.items():
            apart = abs(clock["wall"] - time.time())
            if apart > self.policy.skew.total_seconds() + CLOCK_SLACK:
                raise SecretsError(
                    f"{self.name}: the clocks of {host} and of this machine are {report.duration(apart)} apart, and the "
                    "phases go by dates; set the one that is wrong"
                )

    def _next(self, entry: dict[str, Any]) -> str:
        step = jwt_schedule.next_step(entry, self.policy)
        return f"next: {step.phase} from {date_of(step.due)}"

    def _end_lock(self, left: dict[str, Any], finished: bool = False) -> None:
        """End what a run has left that died between its last change of the store and the end of its lock."""
        self.opened = {"rotation": left["rotation"], "jwt_phase": left.get("phase", "")}
        if self.deployment.check_mode:
            return
        self.deployment.take(self.holder, take_lock=self.arguments["take_lock"])
        # One that had finished cannot have gone back; one without a step had not begun.
        rows = ["finish"] if finished else ["back"] if left.get("step") else []
        aborted = self.arguments["purpose"] == "abort" and not finished
        self._release(self.records(*rows), "aborted" if aborted else "ok")

    def _look_at(self, entry: dict[str, Any], resuming: bool, unfinished: dict[str, Any]) -> dict[str, Any]:
        deployment = self.deployment
        info = deployment.catalog_info([self.name], fingerprint_key=deployment.store.fingerprint_key.hex())
        facts = self.opened["facts"] = info["credentials"][self.name]
        problem = other_algorithm(facts, entry)
        if problem:
            raise SecretsError(problem)
        for part in ("key", "jwks"):
            if part in facts["variables"] and not any(place["used_by"][part] for place in facts["places"]):
                variable = facts["variables"][part]
                raise SecretsError(
                    f"secrets_catalog.{self.name}.variables.{part}: no service on any host uses {variable}"
                )
        elsewhere = drifted(deployment, facts, entry)
        if elsewhere:
            raise self._drift(sorted(facts["variables"].values()), elsewhere)
        # No way back that was begun leads to a key which is said to be compromised.
        turned = (entry.get("target") or {}).get("direction") == "back" and self._forced != EMERGENCY
        going_back = resuming and (turned or self.arguments["purpose"] == "abort")
        # Only where the second key is to verify what somebody signs, everybody has to see it.
        passed = "" if self.phase in ("introduce", "promote") and not going_back else "secondary"
        facts["plan"]["refusals"] = [
            {**one, "text": one["text"].partition(", or -e skip_service=")[0]}
            for one in facts["plan"]["refusals"]
            if one["kind"] != passed
        ]
        self._refuse(facts, info, resuming=resuming or self.phase == EMERGENCY)
        invalid = jwt_schedule.lost(entry, self.policy, now(), self.phase)
        if deployment.check_mode:
            order = [
                [self._label(host, name) for host, place in deployment.places(facts) for name in group(place)]
                for group in self._groups
            ]
            text = "the keys as they were before it" if going_back else self._effect(entry, invalid)
            deployment.show(report.jwt_plan(facts, info["project"], self.phase, order, text))
        else:
            if resuming:
                where = unfinished.get("step", "create").replace("_", " ")
                way = "going back" if going_back else "every live token stays valid"
                deployment.line("open", f"RESUME {self.id}, {self.phase} stopped after {where}; {way}")
            signs = f"{called(entry['current'])} signs"
            deployment.line("open", f"{self.phase} of {self.name}: {signs}; lock {self.id}")
            if invalid:
                deployment.line("open", f"INVALIDATES live tokens: {invalid}")
        phase = "back" if going_back else "forward" if resuming else "new"
        env_file = info["project"]["env_file"]
        return {"changed": False, **self.opened, "addresses": {}, "env_file": env_file, "phase": phase}

    def _effect(self, entry: dict[str, Any], invalid: str) -> str:
        current = called(entry["current"])
        text = {
            "introduce": f"everybody verifies with a new key besides {current}, which signs",
            "promote": f"{called(entry['next']) if entry.get('next') else ''} signs; {current} is still accepted",
            "retire": f"{called(entry['previous']) if entry.get('previous') else ''} is accepted no more; {current} signs",
            EMERGENCY: f"{current} is neither signed nor verified with; a new key signs",
        }[self.phase]
        return text + (f"; INVALIDATES live tokens: {invalid}" if invalid else "; no live token becomes invalid")

    # -- forward

    def create(self) -> dict[str, Any]:
        """Make the new key, where the phase has one, and write durably what the phase aims at."""
        entry, line = self.entry(), self.deployment.line
        target = entry.get("target") or {}
        if target.get("rotation") == self.id:
            if target.get("direction"):
                self.change(lambda stored: stored["target"].pop("direction"))
            line("create", "stored key reused")
            return {"changed": False}
        algorithm, date = self.facts["algorithm"], now().isoformat()
        made = spare = None
        if self.phase in ("introduce", EMERGENCY):
            made = {**jwt_keys.make(algorithm), "created": date}
        if self.phase in ("retire", EMERGENCY) and algorithm in SYMMETRIC:
            spare = spare_key(algorithm, date)
        slots = jwt_schedule.begun(entry, self.phase, made, spare)

        def aim(stored: dict[str, Any]) -> None:
            if target:  # an emergency comes before a phase that was under way
                stored["dropped"] = target
            stored["target"] = {"phase": self.phase, "rotation": self.id, **slots}

        self.change(aim)
        line("create", f"key {called(made)} stored" if made else "no new key")
        return {"changed": True}

    def set(self) -> dict[str, Any]:
        return {"changed": False}

    test = drain = revoke = set

    def publish(self) -> dict[str, Any]:
        """Write the keys to .env together."""
        target = self.slot(self.entry(), "target")
        results = self._publish_slots(target, ledger=self.records("create", "publish", slot=self._subject))
        changed = any(result["changed"] for result in results)
        what = "1 file" if len(results) == 1 else f"{len(results)} files"
        self.deployment.line("publish", what if changed else f"{what}, written before")
        return {"changed": changed}

    def _publish_slots(self, slots: Mapping[str, Any], **arguments: Any) -> list[dict[str, Any]]:
        entry, deployment = self.entry(), self.deployment
        states = [one for one in (entry, entry.get("target"), entry.get("dropped")) if one]
        writes = []
        for host, place in deployment.places(self.facts):
            values, known = jwt_keys.complete(place, slots), [jwt_keys.complete(place, one) for one in states]
            # Nothing at all is nobody's document.
            known.append({place["variables"][part]: "" for part in DERIVED if part in place["variables"]})
            fingerprints = {
                variable: [deployment.store.fingerprint(one[variable]) for one in known if variable in one]
                for variable in values
            }
            writes.append((host, {"path": place["env_file"], "values": values, "replaces": fingerprints}))
        with self._naming_drift():
            return deployment.publish(
                writes,
                fingerprint_key=deployment.store.fingerprint_key.hex(),
                holder=self.holder,
                **arguments,
            )

    @property
    def _subject(self) -> dict[str, Any]:
        """The key that the phase is about, for the ledger: the one that begins or ends."""
        entry = self.entry()
        target = self.slot(entry, "target")
        label = {"introduce": "next", "retire": "previous"}.get(self.phase, "current")
        return dict((entry if self.phase == "retire" else target)[label])

    def roll_out(self) -> dict[str, Any]:
        """Replace the services that the phase concerns, in the order that follows from who signs."""
        return self._replace_services("roll_out", self.slot(self.entry(), "target"))

    @property
    def _groups(self) -> tuple[Callable[[Place], list[str]], ...]:
        """Which services of a host are replaced first, and which when that is done on all of them."""
        return (
            lambda place: roll_out_order(place, self.phase)[0],
            lambda place: roll_out_order(place, self.phase)[1],
        )

    def _replace_services(self, step: str, slots: Mapping[str, Any]) -> dict[str, Any]:
        at_once = self.arguments["rollout"].get("hosts") or 1
        gaps: dict[str, float] = {}
        changed = False
        with self.deployment.kept(self.holder):
            for group in self._groups:
                of = {host.name: place for host, place in self.deployment.places(self.facts) if group(place)}
                hosts = [host for host, place in self.deployment.places(self.facts) if host.name in of]

                def replace(host: Host, of: dict[str, Place] = of, group: Any = group) -> dict[str, Any]:
                    return self._replace_on_host(host, of[host.name], group(of[host.name]), step, slots)

                for host, result in zip(hosts, everywhere(hosts, replace, at_once), strict=True):
                    changed = changed or result["changed"]
                    done = result["services"]
                    gaps.update(
                        {self._label(host, name): one["gap_s"] for name, one in done.items() if one.get("gap_s")}
                    )
        return {"changed": changed, "gaps": gaps, "addresses": {}}

    def _replace_on_host(
        self, host: Host, place: Place, services: list[str], step: str, slots: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Replace services of one host; its ``.env`` has to hold these slots' values all the while."""
        fingerprint = self.deployment.store.fingerprint
        published = {name: fingerprint(value) for name, value in jwt_keys.complete(place, slots).items()}
        masked = [place["variables"][part] for part in SECRET_PARTS if part in place["variables"]]
        return self._compose_rollout(host, place, step, services, published, masked)

    def finish(self) -> dict[str, Any]:
        """What the phase aimed at is what is in use; its date is what the next one counts from."""

        def move(stored: dict[str, Any]) -> None:
            target = self.slot(stored, "target")
            if target.get("direction") == "back":
                raise SecretsError(f"{self.name}: another run is going back from {self.id}; see status.yml")
            slots = jwt_schedule.ended(target, self.phase, now())
            for label in (*jwt_keys.SLOTS, "document", "target", "dropped"):
                stored.pop(label, None)
            stored.update(slots, ended=self.id)

        invalid = jwt_schedule.lost(self.entry(), self.policy, now(), self.phase)
        done = self.records("roll_out", "finish", slot=self._subject)
        self.change(move)
        entry, deployment = self.entry(), self.deployment
        seconds, gaps = round(boot_seconds() - self.opened["began"], 1), self.arguments["rolled"].get("gaps", {})
        self._release(done, "ok", seconds=seconds, gaps=gaps)
        count = sum(len(phase_services(place, self.phase)) for _host, place in deployment.places(self.facts))
        lines = [
            f"{count}/{count} services: {keys_in_use(entry)}   {self._next(entry)}",
            f"INVALID live tokens: {invalid}" if invalid else "no live token is invalid",
            "To do: nothing.",
        ]
        deployment.show(report.jwt_summary(f"{ENDED[self.phase]}  {self.name}", seconds, gaps, lines), color="green")
        return {"changed": True, "revoke": False}

    # -- back

    def back(self) -> dict[str, Any]:
        """Return to the keys as they were before the phase, which is as safe as the phase itself."""
        deployment, entry = self.deployment, self.entry()
        record = deployment.state("read", rotation=self.id)["record"]
        step, reason = record.get("step", "open"), record.get("reason", "the run was interrupted")
        target = entry.get("target")
        aborting = self.arguments["purpose"] == "abort"
        before = f"{called(entry['current'])} signs, as before {self.phase}"
        details: list[tuple[str, str]] = []
        try:
            if not target:
                self._release(self.records(step, state="stopped"), f"STOPPED at {step}")
                working, rerun = f"working: {keys_in_use(entry)}", "looks again"
            elif self.phase == EMERGENCY and not aborting and target.get("direction") != "back":
                # The way back leads to a key that others have.
                deployment.release(self.holder, forget=False)
                working = "replaced ones reject the old key's tokens; the others still accept the compromised key"
                rerun = "goes on with the same new key"
                details = [("Go back", report.command("abort", rotate=self.name) + " (to the compromised key)")]
            else:
                self._go_back_to(entry, step)
                fate = (
                    "the new key's tokens are rejected" if self.phase == EMERGENCY else "no token was rejected for it"
                )
                working, rerun = f"working: {before}; {fate}", "tries again"
        except SecretsError as error:
            aborting = False
            reason = f"{error.message} (going back after {step}: {reason})" if target else f"{reason}; {error.message}"
            step = "back" if target else step
            working, rerun = "each with the keys from before or after; both verify all live tokens", "goes on"
        if aborting:
            deployment.show(report.aborted(self.name, step, before, f"working: {before}"), color="green")
            return {"changed": True}
        details = [("Services", working), ("Rerun", rerun), *details]
        return self._stopped(step, reason, details, record, changed=bool(target))

    def _go_back_to(self, entry: dict[str, Any], step: str) -> None:
        self.note(self.records(step, state="going back"), step=step)
        self.change(lambda stored: stored["target"].update(direction="back"))
        self._publish_slots(entry)
        self._replace_services("back", entry)
        self.change(lambda stored: (stored.pop("target"), stored.pop("dropped", None)))
        aborting = self.arguments["purpose"] == "abort"
        self._release(self.records("back"), "aborted" if aborting else f"STOPPED at {step}")

    # -- failures

    def _unreached(self, step: str) -> str:
        if self.phase == EMERGENCY:
            return "replaced ones reject the old key's tokens; the others still accept the compromised key"
        return "each with the keys from before or after this phase; both verify all live tokens"


def date_of(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%d %H:%M UTC"))


def called(slot: Mapping[str, Any]) -> str:
    """Return what people call a key: its id, or the beginning of a long one."""
    name = str(slot["user"])
    return name if len(name) <= 12 else f"{name[:8]}…"


def keys_in_use(entry: Mapping[str, Any]) -> str:
    """Return in words which key signs, and which others are accepted."""
    others = [called(entry[label]) for label in ("next", "previous") if entry.get(label)]
    return f"{called(entry['current'])} signs" + (f", {others[0]} is accepted too" if others else "")


# A daily run that does not come is worth a word after that many days.
LATE_DAYS = 2


def state_of(
    deployment: Deployment, facts: dict[str, Any], entry: dict[str, Any], stale: set[str], record: dict[str, Any]
) -> str:
    """Return in words where a signing key stands, for ``status.yml``."""
    target, name = entry.get("target"), facts["name"]
    problem = other_algorithm(facts, entry)
    if problem:
        return f"cannot be rotated: {problem}"
    if target:
        way = "the compromised key may still be accepted" if target["phase"] == EMERGENCY else "services work"
        way = "going back" if target.get("direction") == "back" else way
        onward = f"rerun goes on: rotate_jwt; abort -e rotate={name} goes back"
        return f"{target['phase']} unfinished at {record.get('step', 'create').replace('_', ' ')}; {way}; {onward}"
    if drifted(deployment, facts, entry):
        return "DRIFT: .env holds other keys than the store"
    fresh = [service for service in facts["consumers"] if service not in stale]
    step = jwt_schedule.next_step(entry, policy_in(deployment, name))
    days = (now() - step.due).days
    late = f", LATE by {days} days -> rotate_jwt, daily" if days >= LATE_DAYS else ""
    services = f"{len(fresh)}/{len(facts['consumers'])} services"
    weak = entry["current"].get("weak")
    services += f"; its key {weak}" if weak else ""
    return f"{keys_in_use(entry)}; {services}; next: {step.phase} from {date_of(step.due)}{late}"
