# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotations of what no server of the project accepts: published and rolled out as any other, never logged in with."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.utils.display import Display
from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import is_placeholder
from ansible_collections.chat4all.secrets.plugins.module_utils.api_tokens import ready_log
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import VARIABLE_PARTS, seconds
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import kind_of, serverless_engine
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.telegram import bot_id
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.tokens import PLATFORMS, Platform
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.webhooks import WEBHOOKS
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import seal, unseal
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment, now
from ansible_collections.chat4all.secrets.plugins.plugin_utils.jwt_rotation import JwtRotation
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import (
    Rotation,
    is_unfinished,
    old_value,
    phase_of,
    record_of,
    untested,
)

# The variable of the play that holds what a person brings, by name of the credential; its file is vaulted.
NEW_VALUES = "secrets_new_values"
# The same where exactly one credential is rotated, as AWX's surveys have it.
NEW_VALUE = "secrets_new_value"
# How old a token has to be before a platform renews it.
RENEWABLE_AFTER = datetime.timedelta(days=1)


def new_values(deployment: Deployment) -> Mapping[str, Any]:
    """Return what a person brings, by the credentials' names, all of which the catalog has to know."""
    task_vars, known = deployment.task_vars, deployment.arguments["catalog"]
    if NEW_VALUES not in task_vars:
        return {}
    values = deployment.action._templar.template(task_vars[NEW_VALUES])
    if not isinstance(values, Mapping):
        raise SecretsError(
            f"{NEW_VALUES}: must be a mapping of credentials, for example {{{min(known, default='NAME')}: VALUE}}"
        )
    for name in values:
        if name not in known:
            raise SecretsError(f"{NEW_VALUES}.{name}: not in secrets_catalog; there are {', '.join(known)}")
        if kind_of(name, known[name]) not in ("manual", "token"):
            raise SecretsError(f"{NEW_VALUES}.{name}: its values are generated; leave it out")
    return values


class ServerlessRotation(Rotation):
    """A rotation without a server that could be asked: every login is ``untested``.

    What only a server can tell or do is left out; ``set``, ``test``, ``drain`` and ``revoke`` are a subclass's own.
    """

    def called(self, slot: dict[str, Any]) -> str:
        return "the new value" if slot.get("rotation") == self.id else "the present value"

    def log_in(self, facts: dict[str, Any], entry: dict[str, Any], *labels: str, **arguments: Any) -> dict[str, Any]:
        return untested(entry, *labels)

    def _server(self, facts: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _check_logins(self, logins: dict[str, Any], entry: dict[str, Any], facts: dict[str, Any], phase: str) -> None:
        return

    def _is_restored(self, facts: dict[str, Any], entry: dict[str, Any], logins: dict[str, Any]) -> bool:
        return False

    def _users(self, facts: dict[str, Any], entry: dict[str, Any]) -> tuple[str, str]:
        return "the present value", "the new value"

    def _would_set(self, slot: dict[str, Any], entry: dict[str, Any]) -> None:
        return

    def _greeting(self, user: str, accepted: bool) -> str:
        return ".env has the store's value"

    def _count_refused(self, tried: int = 0) -> int | None:
        return None

    def _value_of(self, name: str, title: str) -> str:
        """Return another entry's value, with which a platform is called."""
        slot = self.deployment.stored(name).get("current")
        if not slot:
            raise SecretsError(
                f"{self.name}: {title} is called with the value of {name}, which the store does not have; add it to "
                f"secrets_catalog, or name another entry: token"
            )
        return str(slot["password"])


class ManualRotation(ServerlessRotation):
    """A rotation whose value a person brings, and whose old value a person ends where it was issued."""

    AGAIN = "tries the value again that it is given"
    # Whether nobody has to end the old value: a call does.
    ends_by_call = False

    def open(self) -> dict[str, Any]:
        deployment = self.deployment
        deployment.require_discretion()
        entry = deployment.entry(self.name)
        old, purpose = old_value(entry), self.arguments["purpose"]
        if self._is_in_use(entry):
            # The same command once more: its run died when all was done, or nobody saw its end.
            if left := record_of(self.name, deployment.memory()).get("rotation"):
                return self._close(entry, left)
            todo = f"; {self._to_end(entry)}" if old else ""
            deployment.line("open", f"{self.name}: the value that was brought is in use already{todo}")
            return {"changed": False, "phase": "ended"}
        if not old or entry.get("pending") or purpose == "abort":
            return super().open()
        if self.arguments["confirmed"]:
            # Whoever has ended it does not wait for the grace.
            self.arguments["end_grace"] = True
        if self.arguments["confirmed"] or self.ends_by_call:
            return super().open()
        left = record_of(self.name, deployment.memory()).get("rotation")
        if left == old["rotation"]:
            return self._close(entry, left)
        todo = self._to_end(entry)
        if purpose == "rotate":
            raise SecretsError(f"{self.name}: one value at a time: {todo}")
        deployment.line("open", f"{self.name}: not ended. {todo}")
        return {"changed": False, "phase": "grace"}

    def _is_in_use(self, entry: dict[str, Any]) -> bool:
        """Tell whether a rotation to the value that is brought has ended."""
        return self.arguments["purpose"] == "rotate" and not is_unfinished(entry) and self._is_brought(entry)

    def _is_brought(self, entry: dict[str, Any]) -> bool:
        """Tell whether the value that is brought is the current one by an earlier run."""
        given, current = self._given(), entry["current"]
        if not given or "rotation" not in current:
            return False
        return self._value(given, entry) == (current["user"], current["password"])

    def _to_end(self, entry: dict[str, Any]) -> str:
        """Return what a person has to do to end the old value."""
        return report.to_end(self.name)

    def _refuse(self, facts: dict[str, Any], info: dict[str, Any], resuming: bool) -> None:
        super()._refuse(facts, info, resuming)
        entry = self.entry()
        pending, given = entry.get("pending"), self._given()
        if self.opened["purpose"] != "rotate" or (pending or {}).get("direction") == "back":
            return
        if self._only_ends():
            if given and not self._is_brought(entry):
                raise SecretsError(
                    f"{self.name}: a rotation to another value is unfinished; give that one, or none, and this one afterwards"
                )
        elif not pending:
            self._check_new(entry, given)
        elif given and self._value(given, entry) != (pending["user"], pending["password"]) and not self._gives_way():
            raise SecretsError(
                f"{self.name}: a rotation to another value is unfinished; give that one, or none, or go back first: "
                + report.command("abort", rotate=self.name)
            )

    def _only_ends(self) -> bool:
        """Tell whether an earlier run has left nothing but the old value's end."""
        return phase_of(self.entry()) == "revoke" and self.opened.get("heard", {}).get("current") != "rejected"

    def _gives_way(self) -> bool:
        """Tell whether the pending value is worth nothing, so that another one may take its place."""
        return False

    def _given(self) -> Any:
        """Return what the play was given as this credential's new value; nothing where it was given none."""
        task_vars, template = self.deployment.task_vars, self.deployment.action._templar.template
        values = new_values(self.deployment)
        if self.name in values:
            return values[self.name]
        # A survey's answer is one text.
        if NEW_VALUE in task_vars and template(task_vars.get("rotate", "")) == self.name:
            return template(task_vars[NEW_VALUE])
        return self._typed()

    def _typed(self) -> str:
        """Return what a person types: in a terminal *open* asks, once, and hands it sealed to the steps after it."""
        if "typed" not in self.opened:
            if self.arguments.get("step") != "open" or not self._may_ask():
                return ""
            self.opened["typed"] = seal(self._typed_key, self._ask_person())
        return unseal(self._typed_key, self.opened["typed"]).decode()

    @property
    def _typed_key(self) -> bytes:
        return hmac.new(self.deployment.store.fingerprint_key, self.id.encode(), hashlib.sha256).digest()

    def _may_ask(self) -> bool:
        """Tell whether a person's new value is what this run needs."""
        wanted = not self.entry().get("pending") and not self._only_ends()
        return self.opened.get("purpose") == "rotate" and wanted

    def _ask_person(self) -> bytes:
        """Return what is typed, unseen; nothing where there is no terminal."""
        try:
            typed: bytes = Display().prompt_until(f"New value of {self.name} (it is not shown):", private=True)
            typed.decode()
        except AnsiblePromptNoninteractive:
            return b""
        except AnsiblePromptInterrupt:
            raise SecretsError(f"{self.name}: interrupted while it was asked for its new value") from None
        except UnicodeDecodeError:
            raise SecretsError(f"{self.name}: what was typed is no text") from None
        return typed

    def _value(self, given: Any, entry: dict[str, Any]) -> tuple[str, str]:
        """Return user name and value of what was given: the value alone, or a mapping with a user name beside it."""
        where = f"{NEW_VALUES}.{self.name}"
        user = entry["current"]["user"]
        if isinstance(given, Mapping):
            others = sorted(set(given) - {"user"})
            if len(others) != 1 or others[0] not in VARIABLE_PARTS:
                raise SecretsError(f"{where}: must be the value, or a mapping such as {{user: NAME, secret: VALUE}}")
            user, given = given.get("user", user), given[others[0]]
        for part in (user, given):
            if part is None or isinstance(part, (bool, int, float, list, Mapping)):
                raise SecretsError(f"{where}: is no text; put it in quotes")
        return str.__str__(str(user)), str.__str__(str(given))

    def _check_new(self, entry: dict[str, Any], given: Any) -> None:
        """Refuse what cannot be meant as a new value."""
        where = f"{NEW_VALUES}.{self.name}"
        user, value = self._value(given, entry)
        if user != entry["current"]["user"] and "user" not in self.facts["variables"]:
            raise SecretsError(f"{where}: has a user name, but secrets_catalog.{self.name}.variables names none for it")
        if not value.strip():
            raise SecretsError(
                f"{self.name}: a person brings its new value; type it when a run in a terminal asks for it, or put "
                f"{NEW_VALUES}: {{{self.name}: VALUE}} into a file, ansible-vault encrypt FILE, and add -e @FILE"
            )
        if any(part != part.strip() or not part.isprintable() for part in (user, value)):
            raise SecretsError(
                f"{where}: begins or ends with a space, or has a character that is no text (a line's end?)"
            )
        if is_placeholder(value):
            raise SecretsError(f"{where}: is a placeholder, not a value")
        for label in ("current", "previous"):
            if value == entry.get(label, {}).get("password"):
                raise SecretsError(f"{where}: is the {label} value; have a new one issued first")

    def create(self) -> dict[str, Any]:
        """Write the value that was brought durably, before any service sees it."""
        entry = self.entry()
        if entry.get("pending"):
            self.deployment.line("create", "stored value reused")
            return {"changed": False}
        return self._bring(entry)

    def _bring(self, entry: dict[str, Any], **replaced: Any) -> dict[str, Any]:
        """Write what the play was given as the pending value, in the same change as what it replaces."""
        given = self._given()
        self._check_new(entry, given)
        user, value = self._value(given, entry)
        pending = {
            "user": user,
            "password": value,
            "created": now().isoformat(),
            "rotation": self.id,
        }
        self.change(lambda stored: stored.update(pending=pending, **replaced))
        self.note(self.records("open", "create", slot=pending))
        self.deployment.line("create", "value stored")
        return {"changed": True}

    def set(self) -> dict[str, Any]:
        self.slot(self.entry(), "pending")
        self.deployment.line("set", "left to whoever issued the value")
        return {"changed": False, "login": {"status": "untested"}}

    def test(self) -> dict[str, Any]:
        self.deployment.line("test", "not tested: nobody here can; the consumers' health is the evidence")
        return {"changed": False}

    def drain(self) -> dict[str, Any]:
        skipped = self.skipped(self.facts)
        consumers = [name for name in self.facts["consumers"] if name not in skipped]
        self.deployment.line("drain", f"{len(consumers)} of {len(self.facts['consumers'])} have the new value")
        return {"changed": False}

    def _revoke_after(self) -> str:
        # A person ends it, in any case: without a grace from now on.
        return super()._revoke_after() or ("" if self.ends_by_call else now().isoformat())

    def revoke(self) -> dict[str, Any]:
        """Believe the person who says that the old value is ended."""
        previous = self.slot(self.entry(), "previous")
        self.note(self.records("revoke", state="confirmed by a person", slot=previous))
        self.change(lambda stored: stored["previous"].update(revoked=now().isoformat()))
        self.deployment.line("revoke", "old value ended where it was issued, as a person confirms")
        if self.opened["purpose"] == "revoke":
            self._end([], None, refused_at=report.clock())
        return {"changed": True, "own_refusals": 0}


class TokenRotation(ManualRotation):
    """A rotation of a platform's API token, which the platform is asked about before anybody gets it, and afterwards."""

    AGAIN = "tries again with the token that it is given"

    @property
    def platform(self) -> Platform:
        engine = serverless_engine(self.name, self._declared)
        return PLATFORMS[engine.name if engine else ""]

    @property
    def server_name(self) -> str:
        return self.platform.title

    def log_in(self, facts: dict[str, Any], entry: dict[str, Any], *labels: str, **arguments: Any) -> dict[str, Any]:
        """Make a harmless call with each slot's token."""
        credentials = [{"label": label, "password": entry[label]["password"]} for label in labels if entry.get(label)]
        [[host, _place], *_others] = self.deployment.places(facts)
        return host.module("api_token_credential_info", **facts["platform"], credentials=credentials)

    @property
    def _declared(self) -> Mapping[str, Any]:
        return self.deployment.arguments["catalog"].get(self.name) or {}

    @property
    def ends_by_call(self) -> bool:
        """Whether the catalog has the app by whose secret the platform ends a token."""
        return "app_id" in self._declared

    def _ask(self, entry: dict[str, Any], label: str) -> dict[str, Any]:
        """Return the outcome of a call with a slot's token, and keep what it says of the consumers."""
        login: dict[str, Any] = self.log_in(self.facts, entry, label)["logins"][label]
        if login.get("webhook") is False:
            self._replace_pollers()
        return login

    def _replace_pollers(self) -> None:
        """Have consumers that poll replaced stop-first: two at once would take each other's updates."""
        self.facts["polls"] = True
        for service in (service for wave in self.facts["plan"]["waves"] for service in wave):
            given = self.deployment.arguments["services"].get(service["service"].rpartition("/")[2]) or {}
            if service["mode"] == "start_first" and given.get("replace") != "start_first":
                service.update(mode="stop_first", reason="polls for updates")

    def _options(self, declared: dict[str, Any], consumers: list[str]) -> dict[str, Any]:
        options = dict(declared)
        for name in consumers:
            replace = "stop_first" if self.facts.get("polls") else ""
            default = {"ready_log": ready_log(self.facts, name), "replace": replace}
            given = {**default, **{key: value for key, value in (options.get(name) or {}).items() if value}}
            options[name] = {key: value for key, value in given.items() if value}
        return options

    def _may_ask(self) -> bool:
        return super()._may_ask() and not self.platform.renews

    def lacks(self, entry: dict[str, Any]) -> str:
        """Return why there is nothing to rotate to; nothing where there is a new token, or the way to one."""
        if self._given() or is_unfinished(entry):
            return ""
        if not self.platform.renews:
            return "no new token was brought; left as it is"
        # How old an imported one is, nobody knows.
        if not entry.get("previous") or (left := self._due(entry["current"]) - now()) <= datetime.timedelta():
            return ""
        # Its run has left a lock.
        if self._renewed_by(entry):
            return ""
        return f"{self.platform.title} renews it in {report.duration(left.total_seconds())}; left as it is until then"

    def _renewed_by(self, entry: dict[str, Any]) -> str:
        """Return the run that has renewed the token, and died before its lock's end; nothing where there is none."""
        left = record_of(self.name, self.deployment.memory()).get("rotation", "")
        return left if left == entry["current"].get("rotation") else ""

    def _renewable(self, entry: dict[str, Any]) -> datetime.datetime:
        """Return from when on the platform renews a token that it has renewed."""
        return datetime.datetime.fromisoformat(entry["current"]["created"]) + RENEWABLE_AFTER

    def _would_renew(self, entry: dict[str, Any]) -> bool:
        """Tell whether the command is the one that has the platform renew the token, with nothing unfinished before."""
        if not self.platform.renews or self.arguments["purpose"] != "rotate" or self._given():
            return False
        return not is_unfinished(entry) and self.arguments["drift"] != "replace"

    def _due(self, slot: dict[str, Any]) -> datetime.datetime:
        """Return when a token is as old as its interval allows."""
        declared = self._declared.get("interval")
        engine = serverless_engine(self.name, self._declared)
        days = engine.interval if engine else 0
        interval = days * 86400 if declared is None else seconds(declared, f"secrets_catalog.{self.name}.interval")
        return datetime.datetime.fromisoformat(slot["created"]) + datetime.timedelta(seconds=interval)

    # -- open

    def open(self) -> dict[str, Any]:
        deployment = self.deployment
        deployment.require_discretion()
        entry = deployment.entry(self.name)
        old, renewing = old_value(entry), self.platform.renews and self.arguments["purpose"] == "rotate"
        would_renew = self._would_renew(entry)
        if would_renew and (left := self._renewed_by(entry)):
            return self._close(entry, left)
        # The same command once more, when nobody saw its end.
        renewed = would_renew and entry["current"].get("renewed") and self._renewable(entry) > now()
        if renewed or self._is_in_use(entry):
            facts = deployment.catalog_info([self.name])["credentials"][self.name]
            if self.log_in(facts, entry, "current")["logins"]["current"]["status"] == "rejected":
                which = "it has renewed" if renewed else "is brought, which is in use"
                raise SecretsError(
                    f"{self.name}: {self.platform.title} rejects the token that {which}; have a new one issued, and bring it"
                )
            if renewed:
                again = self._renewable(entry)
                text = f"{self.name}: renewed already; {self.platform.title} renews it again from {again:%Y-%m-%d %H:%M UTC}"
                deployment.line("open", f"{text}; before that, bring a new token: -e @FILE")
                return {"changed": False, "phase": "ended"}
        elif old and not entry.get("pending") and self.arguments["purpose"] != "abort" and not self.ends_by_call:
            facts = deployment.catalog_info([self.name])["credentials"][self.name]
            login = self.log_in(facts, entry, "previous")["logins"]["previous"]
            platform = self.platform
            if login["status"] == "accepted" and self.arguments["confirmed"] and not platform.renews:
                raise SecretsError(f"{self.name}: {platform.title} still accepts the old token; {self.todo(old)}")
            if login["status"] == "rejected" or renewing or platform.single:
                # The platform's own word is worth more than a person's; what was renewed runs out by itself, and one of
                # two tokens of which only one can be valid is dead.
                self.arguments["confirmed"] = True
            if not self.arguments["confirmed"] and login["status"] == "unknown":
                deployment.line(
                    "open", f"{self.name}: {login['reason']}, so that nobody knows whether the old token ended"
                )
        return super().open()

    def _to_end(self, entry: dict[str, Any]) -> str:
        if self.ends_by_call:
            return f"the old token ends by {report.command('revoke', revoke=self.name)}"
        return f"{self.platform.ending}, then: {report.command('revoke', revoke=self.name)}"

    def mend(self) -> str:
        return f"have a new one issued, and bring it: rotate -e rotate={self.name} -e @FILE"

    def old_ends(self, old: dict[str, Any]) -> str:
        if self.platform.renews and old.get("revoke_after"):
            return f"the old token runs out by itself, by {old['revoke_after'][:10]}"
        if self.ends_by_call:
            after = f"after {old['revoke_after'][:10]}" if old.get("revoke_after") else "now"
            return f"the old token is to end {after} -> revoke -e revoke={self.name}"
        return super().old_ends(old)

    def todo(self, old: dict[str, Any]) -> str:
        if self.platform.single:
            # Nothing is to be done at the platform: to revoke once more would end the new token.
            return f"see the old token refused, which issuing the new one has ended: revoke -e revoke={self.name}"
        return f"{self._by(old)}, then: revoke -e revoke={self.name}"

    def _by(self, old: dict[str, Any]) -> str:
        """Return what a person has to do to end an old token, and by when."""
        after = old.get("revoke_after", "")
        by = f" by {after[:10]}" if after else ""
        over = (
            " (OVERDUE)"
            if after and not self.platform.renews and datetime.datetime.fromisoformat(after) < now()
            else ""
        )
        return f"{self.platform.ending}{by}{over}"

    def _check_logins(self, logins: dict[str, Any], entry: dict[str, Any], facts: dict[str, Any], phase: str) -> None:
        title, current, pending = self.platform.title, logins["current"], logins.get("pending")
        heard = self.opened["heard"] = {label: login["status"] for label, login in logins.items()}
        if any(login.get("webhook") is False for login in logins.values()):
            self._replace_pollers()
        if phase == "back":
            # Where neither is accepted, the way back is the way to another one.
            if heard.get("pending") == "rejected":
                return
            if self._is_ended(heard):
                raise SecretsError(
                    f"{self.name}: {title} rejects the token before, so there is no way back; on with the new one: "
                    + report.command("rotate", rotate=self.name)
                )
            if current["status"] != "accepted":
                raise SecretsError(
                    f"{self.name}: {current['reason']}, so that nobody knows whether there is a way back"
                )
            return
        given = self._given() if self.opened["purpose"] == "rotate" else ""
        asked = pending or current
        # Of a value that is brought, itself is asked about alone.
        if asked["status"] == "unknown" and (pending or not given):
            raise SecretsError(f"{self.name}: {asked['reason']}")
        if pending and pending["status"] == "rejected" and not (given and self._is_another(given, entry)):
            raise SecretsError(
                f"{self.name}: {title} rejects the new token; bring another, or go back: "
                + report.command("abort", rotate=self.name)
            )
        if current["status"] == "rejected" and self.opened["purpose"] == "revoke":
            raise SecretsError(
                f"{self.name}: {title} rejects the present token; have a new one issued, and bring it: "
                + report.command("rotate", rotate=self.name)
            )
        facts["about"] = self._about(facts, entry, current)

    def _is_ended(self, heard: Mapping[str, str]) -> bool:
        """Tell whether the current token is dead, by what the platform has said of it, or of a bot's only other one."""
        alone = self.platform.single and heard.get("pending") == "accepted"
        return heard.get("current") == "rejected" or alone

    def _has_no_way_back(self, logins: dict[str, Any], facts: dict[str, Any]) -> bool:
        onward = logins["pending"]["status"] == "accepted" or self._given()
        return bool(self.opened["purpose"] == "rotate" and logins["current"]["status"] == "rejected" and onward)

    def _is_another(self, given: Any, entry: dict[str, Any]) -> bool:
        """Tell whether a value is brought that is not the pending one."""
        pending = entry.get("pending")
        return bool(pending and given and self._value(given, entry) != (pending["user"], pending["password"]))

    def _gives_way(self) -> bool:
        return bool(self.opened["heard"].get("pending") == "rejected")

    def _about(self, facts: dict[str, Any], entry: dict[str, Any], current: dict[str, Any]) -> dict[str, str]:
        """Return what the plan says of this platform's tokens."""
        platform = self.platform
        value = f"a person brings it; {platform.title} is asked about it before it is published"
        if platform.renews and not self._given():
            value = f"{platform.title} renews the present token; the new one is stored, then tried"
        effect = "none: both tokens are valid until the old one is ended"
        if platform.single:
            effect = (
                "a bot has one token: the old one is dead from BotFather's /revoke on, before this run, so the bot is"
            )
            effect += " without a valid token from then until its services are replaced"
        elif current["status"] == "rejected":
            effect = f"{platform.title} rejects the present token already: calls fail until the services are replaced"
        by_hand = "none      the old token is dead" if platform.single else self._to_end(entry)
        if self.ends_by_call:
            grace = f"after {report.duration(facts['grace'])} of grace" if facts["grace"] else "in the same run"
            by_hand = f"none      {platform.title}'s API ends the old token {grace}"
        by_hand = "none      the old token runs out by itself" if platform.renews else by_hand
        return {"value": value, "effect": effect, "by_hand": by_hand}

    def _greeting(self, user: str, accepted: bool) -> str:
        title = self.platform.title
        if self.opened["heard"]["current"] == "accepted":
            return f"{title} accepts the present token"
        if self.opened["heard"]["current"] == "unknown":
            return f"{title} gives no clear answer about the present token"
        return f"{title} rejects the present token: services with it fail from then until they are replaced"

    def _refuse(self, facts: dict[str, Any], info: dict[str, Any], resuming: bool) -> None:
        if self.opened["heard"]["current"] == "rejected":
            # A connector with a dead token may well be down for it: the new one is what it needs.
            refusals = facts["plan"]["refusals"]
            facts["plan"]["refusals"] = [one for one in refusals if one["kind"] != "unhealthy"]
        super()._refuse(facts, info, resuming)
        if self.ends_by_call and self.opened["purpose"] != "abort":
            self._value_of(self._declared["token"], self.server_name)
        entry, given = self.entry(), self._given()
        pending = entry.get("pending")
        if self.opened["purpose"] != "rotate" or (pending and not self._is_another(given, entry)) or self._only_ends():
            return
        if pending and pending.get("direction") == "back":
            return
        if given:
            self._check_new(entry, given)
            user, value = self._value(given, entry)
            candidate = {"current": entry["current"], "pending": {"user": user, "password": value}}
            self._require(self._ask(candidate, "pending"), "the new token", candidate)
            self.opened["heard"]["pending"] = "accepted"
        elif self.opened["heard"]["current"] == "rejected":
            raise SecretsError(
                f"{self.name}: {self.server_name} rejects the present token, so it cannot renew it; have a new one "
                "issued, and bring it"
            )

    def _require(self, login: dict[str, Any], what: str, entry: dict[str, Any]) -> None:
        """Raise where the platform does not accept a token, or where it is another bot's."""
        title = self.server_name
        if login["status"] == "rejected":
            raise SecretsError(f"{self.name}: {title} rejects {what} ({login['reason']}); nothing is published")
        if login["status"] != "accepted":
            raise SecretsError(f"{self.name}: {login['reason']}; nothing is published")
        mine = bot_id(entry["current"]["password"]) if self.facts["engine"] == "telegram" else ""
        if mine and login["account"]["id"] != mine:
            raise SecretsError(
                f"{self.name}: {what} is that of another bot, {login['account']['name']} ({login['account']['id']}), "
                f"not of {mine}; nothing is published"
            )

    # -- forward

    def _check_new(self, entry: dict[str, Any], given: Any) -> None:
        if given or not self.platform.renews:
            super()._check_new(entry, given)
        if given and self.facts["engine"] == "telegram" and not bot_id(self._value(given, entry)[1]):
            raise SecretsError(
                f"{NEW_VALUES}.{self.name}: is no token of a bot; BotFather's are such as 123456:ABC-DEF"
            )

    def create(self) -> dict[str, Any]:
        """Write the token durably: the one that was brought, or the one that the platform makes of the present one."""
        entry = self.entry()
        platform = self.platform
        if self._is_another(self._given(), entry):
            # open has seen the pending one rejected; .env may hold it.
            return self._bring(entry, dropped=entry["pending"])
        if entry.get("pending") or not platform.renews or self._given():
            return super().create()
        key = secrets.token_bytes(32)
        [[host, _place], *_others] = self.deployment.places(self.facts)
        renewed = host.module(
            "api_token_credential",
            **self.facts["platform"],
            credential={"password": entry["current"]["password"]},
            seal_key=key.hex(),
            state_dir=host.state_dir,
            holder=self.holder,
        )
        pending = {
            "user": entry["current"]["user"],
            "password": unseal(key, renewed["sealed"]).decode(),
            "created": now().isoformat(),
            "rotation": self.id,
            "renewed": True,
        }
        self.change(lambda stored: stored.update(pending=pending))
        self.note(self.records("open", "create", slot=pending))
        valid = report.duration(renewed["expires_in"])
        self.deployment.line("create", f"renewed by {platform.title}, valid for {valid}; stored")
        return {"changed": True}

    def set(self) -> dict[str, Any]:
        self.slot(self.entry(), "pending")
        self.deployment.line("set", f"issued by {self.server_name}")
        return {"changed": False, "login": {"status": "untested"}}

    def test(self) -> dict[str, Any]:
        """Make a call with the new token before anybody gets it."""
        entry = self.entry()
        self.slot(entry, "pending")
        login = self._ask(entry, "pending")
        self._require(login, "the new token", entry)
        self.deployment.line("test", f"{self.server_name} accepts it: {login['account']['name']}")
        return {"changed": False}

    def drain(self) -> dict[str, Any]:
        """Confirm with a call that the services have a token that works."""
        entry = self.entry()
        if self.opened["phase"] == "revoke_first" and not entry.get("pending"):
            # An earlier token's end; the present one is about to be replaced.
            return {"changed": False}
        login = self._ask(entry, "pending" if entry.get("pending") else "current")
        if login["status"] != "accepted":
            raise SecretsError(f"{login['reason']}; the services have the new token")
        skipped = self.skipped(self.facts)
        consumers = [name for name in self.facts["consumers"] if name not in skipped]
        count = f"{len(consumers)} of {len(self.facts['consumers'])} have the new token"
        self.deployment.line("drain", f"{count}; {self.server_name} accepts it: {login['account']['name']}")
        return {"changed": False}

    def _revoke_after(self) -> str:
        entry = self.entry()
        same = self.slot(entry, "pending")["password"] == entry["current"]["password"]
        # Telegram's old token is dead by now, or whoever brought the new one has ended the old one already.
        if same or self.platform.single or self._ask(entry, "current")["status"] == "rejected":
            return ""
        if not self.platform.renews:
            return super()._revoke_after()
        # It runs out by its own age.
        created = datetime.datetime.fromisoformat(entry["current"]["created"])
        return (created + datetime.timedelta(seconds=self.facts["grace"])).isoformat()

    def revoke(self) -> dict[str, Any]:
        """See the old token refused; where the platform cannot be asked, believe the person who says that it is ended."""
        entry = self.entry()
        previous, title = self.slot(entry, "previous"), self.server_name
        ours = previous["rotation"] == self.id
        done = self.records("drain", "finish", slot=entry["current"]) if ours else []
        if previous["password"] == entry["current"]["password"]:
            how, text = "the same token", f"{title} has renewed the token without changing it: nothing to end"
        else:
            login = self._ask(entry, "previous")
            if login["status"] == "rejected":
                how, text = "done", f"old token refused by {title}"
            elif self.ends_by_call and login["status"] == "accepted":
                self._end_by_call(entry)
                how, text = "done", f"old token ended by {title}'s API, and refused since"
            elif self.platform.single and self._ask(entry, "current")["status"] == "accepted":
                how, text = "ended by the new one", f"{title} accepts the new token, so the old one is dead"
            elif self.platform.renews and self.opened["purpose"] == "rotate":
                how, text = "left to run out", f"{title} lets the old token run out by itself"
            elif not self.arguments["confirmed"]:
                raise SecretsError(f"the old token: {login['reason'] or f'{title} still accepts it'}")
            else:
                how, text = (
                    "confirmed by a person",
                    f"old token ended, as a person confirms ({title} was not seen to refuse it)",
                )
        self.note([*done, *self.records("revoke", state=how, slot=previous)])
        self.change(lambda stored: stored["previous"].update(revoked=now().isoformat()))
        self.deployment.line("revoke", text)
        if ours or self.opened["purpose"] == "revoke":
            self._end([], None, refused_at=report.clock())
        return {"changed": True, "own_refusals": 0}

    def _end_by_call(self, entry: dict[str, Any]) -> None:
        """Have the platform end the old token, and see it refused."""
        [[host, _place], *_others] = self.deployment.places(self.facts)
        host.module(
            "api_token_credential",
            **self.facts["platform"],
            state="absent",
            credential={"password": entry["previous"]["password"]},
            app_id=self._declared["app_id"],
            app_secret=self._value_of(self._declared["token"], self.server_name),
            access_token=entry["current"]["password"],
            state_dir=host.state_dir,
            holder=self.holder,
        )

    def _summary(self, entry: dict[str, Any], outcome: dict[str, Any]) -> list[str]:
        old = old_value(entry)
        end, after = report.command("revoke", revoke=self.name), (old or {}).get("revoke_after", "")[:10]
        todo, valid = "", "valid until a person ends it"
        if old and self.ends_by_call:
            todo, valid = f"{f'after {after}' if after else 'then'}: {end}", "valid until it is ended"
        elif old and self.platform.renews and after:
            valid = f"runs out by {after}"
        elif old:
            todo = f"{self._by(old)}, then: {end}"
        facts = {"title": self.server_name, "todo": todo, "valid": valid}
        return report.token_summary({**self.facts, **facts}, outcome)

    # -- back

    def _current_is_dead(self, entry: dict[str, Any]) -> bool:
        """Tell whether nobody is sent back; where the platform cannot be asked now, what *open* has heard counts.

        Where nobody knows, the pending token is kept: it may be the only one.
        """
        heard, answer = self.opened.get("heard", {}), "unknown"
        with contextlib.suppress(SecretsError):
            answer = self._ask(entry, "current")["status"]
        if answer == "unknown":
            return bool(self._is_ended(heard) or heard.get("current") != "accepted")
        return answer == "rejected"

    def _why_dead(self, user: str) -> str:
        return f"{self.server_name} rejects the token before, or cannot be asked"


class WebhookRotation(ServerlessRotation):
    """A rotation of a webhook's secret: services accept both, then the platform changes over, then the old one ends."""

    REPLACES_AT_END = True

    @property
    def _title(self) -> str:
        return WEBHOOKS[self.facts["platform"]["platform"]].title

    def _call(self, module: str, **arguments: Any) -> dict[str, Any]:
        """Run a module on a host that has a consumer, with the token that the call is made with."""
        token = self._value_of(self.facts["token"], self._title)
        [[host, _place], *_others] = self.deployment.places(self.facts)
        if arguments:
            arguments |= {"state_dir": host.state_dir, "holder": self.holder}
        return host.module(module, **self.facts["platform"], token=token, **arguments)

    def _tell(self, slot: dict[str, Any], ledger: list[dict[str, Any]]) -> None:
        """Have the platform send a slot's secret."""
        self._call("webhook_credential", credential={"password": slot["password"]}, ledger=ledger)

    def _check_logins(self, logins: dict[str, Any], entry: dict[str, Any], facts: dict[str, Any], phase: str) -> None:
        if phase in ("new", "forward"):
            if skipped := sorted(self.skipped(facts)):
                raise SecretsError(
                    f"{self.name}: {skipped[0]} must not be skipped: it would refuse what {self._title} sends then"
                )
            found = self._call("webhook_credential_info")
            if found["status"] != "accepted":
                raise SecretsError(f"{self.name}: {found['reason']}")
            facts["about"] = {
                "value": f"generated; services accept it beside the present one, then {self._title} sends it to {found['url']}",
                "effect": "no refused updates expected",
                "by_hand": "none      the old secret ends in the same run: services are replaced a second time, without it",
            }
            if facts["grace"]:
                facts["about"]["by_hand"] = (
                    f"none      the old secret ends after {report.duration(facts['grace'])} of grace"
                )

    def set(self) -> dict[str, Any]:
        pending = self.slot(self.entry(), "pending")
        if self.opened["phase"] != "forward":
            self.note(self.records("open", "create", slot=pending))
        self.deployment.line("set", f"{self._title} goes on with the present secret until every service accepts both")
        return {"changed": False, "login": {"status": "untested"}}

    def test(self) -> dict[str, Any]:
        self.deployment.line("test", "tried once the services accept both")
        return {"changed": False}

    def drain(self) -> dict[str, Any]:
        """Have the platform change over to the new secret, now that every service accepts both."""
        pending = self.entry().get("pending")
        if pending:
            # Known from now on: the way back has to tell the platform, too.
            self.change(lambda stored: stored["pending"].update(told=True))
            try:
                self._tell(pending, self.records("drain", slot=pending))
            except SecretsError as error:
                if error.details.get("refused"):
                    # The way back tells the platform first of all.
                    self.change(lambda stored: stored["pending"].update(direction="back"))
                raise
            self.deployment.line(
                "drain", f"{self._title} sends the new secret; {len(self.facts['consumers'])} accept both"
            )
        return {"changed": bool(pending)}

    def revoke(self) -> dict[str, Any]:
        """Have the services accept the new secret alone."""
        entry = self.entry()
        previous = self.slot(entry, "previous")
        ours = previous["rotation"] == self.id
        if previous.get("imported"):
            # Nobody knows which of the two is sent.
            self._tell(entry["current"], self.records("drain", slot=entry["current"]))
        self.change(lambda stored: stored["previous"].update(ending=True))
        self._publish("current")
        replaced = self._replace("revoke", "current")
        done = self.records("finish", slot=entry["current"]) if ours else []
        self.note([*done, *self.records("revoke", slot=previous)])
        self.change(
            lambda stored: (stored["previous"].update(revoked=now().isoformat()), stored["current"].pop("told", 0))
        )
        self.deployment.line("revoke", "no service accepts the old secret any more")
        if ours or self.opened["purpose"] == "revoke":
            self._end([], None, refused_at=report.clock())
        return {"changed": any(result["changed"] for _host, result in replaced), "own_refusals": 0}

    def _go_back(self, pending: dict[str, Any], step: str) -> None:
        if pending.get("told"):
            self.change(lambda stored: stored["pending"].update(direction="back"))
            self._tell(self.entry()["current"], self.records(step, state="going back", slot=pending))
        super()._go_back(pending, step)

    def _summary(self, entry: dict[str, Any], outcome: dict[str, Any]) -> list[str]:
        return report.webhook_summary(self.facts, self._title, outcome)


# By the engine's name; "" stands for all that have a server.
ROTATIONS: dict[str, type[Rotation]] = {
    "": Rotation,
    "manual": ManualRotation,
    "webhook": WebhookRotation,
    "jwt": JwtRotation,
    **dict.fromkeys(PLATFORMS, TokenRotation),
}


def rotation_of(deployment: Deployment, name: str, arguments: dict[str, Any]) -> Rotation:
    """Return the rotation of a credential, of the class that its engine needs."""
    engine = serverless_engine(name, deployment.arguments["catalog"].get(name))
    return ROTATIONS[engine.name if engine else ""](deployment, name, arguments)
