# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deployments of credentials that no database server accepts: signing keys, API tokens, webhook secrets; under traffic."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import yaml
from connectors import BOT, Connectors, new_token
from deployment import BUILD, Check, Events, Rotated, harness
from outcome import check_containers, check_nothing_left
from plays import Plays
from processes import TREE
from stack import Stack, StackError
from standins import APP
from tokens import SERVICES, TokenStack

if TYPE_CHECKING:
    from cases import Case
    from counters import Logins

TOKEN_LIFE = 3
POLICY = {"token_life": f"{TOKEN_LIFE}s", "skew": "1s", "overlap": "2s"}
# Seconds between two updates, and until what was sent just before has been counted.
SENDS_EVERY = 0.1
COUNTED = 1
# Seconds without an event after which the engine has nothing more to do.
QUIET = 1
NO_WEBHOOK = {"webhook": {"bot": BOT, "url": "", "secret": ""}}


class Serverless(Rotated):
    """A stack that provision.yml has made ready; what its users accept and refuse is counted from then on."""

    services: dict[str, dict[str, Any]] = {}

    def __init__(self, name: str, case: Case) -> None:
        self.case = case
        self.folder = BUILD / "crash" / name
        self.stack = self.make_stack(name)
        self._counted: Counter[str] = Counter()
        # Which of the turns is the next one.
        self._next = 0

    def make_stack(self, name: str) -> Stack:
        raise NotImplementedError

    @property
    def catalog(self) -> dict[str, Any]:
        raise NotImplementedError

    def __enter__(self) -> Serverless:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.stack.create()
        return self

    def __exit__(self, *exception: object) -> None:
        if hasattr(self, "events"):
            self.events.close()
        self.stack.down()

    def start(self) -> None:
        self.stack.up()
        self.plays = Plays(
            self.store_folder,
            self.stack.directory,
            secrets_catalog=self.catalog,
            secrets_services=self.services,
            rotate_rollout={"quiet": 0.2, "settle": 0.2},
        )
        self.events = Events(self.stack.project)
        self.carry_out("provision.yml")

    def warm_up(self) -> None:
        """Rotate once: the first rotation is of a value that was imported, and has none before it to end."""
        for turn in self.turns:
            self.prepare(turn)
            self.carry_out()

    def carry_out(self, *command: str) -> None:
        """Run a command that nobody kills."""
        run = self.run(command=command)
        if run.end():
            raise harness.BenchmarkError(f"{' '.join(command or self.command)} failed\n{run.output}")

    def leave_unfinished(self, label: str, *command: str) -> None:
        """Run a command, kill it at a point, and wait until the engine has done what it was told to."""
        run = self.run(label, command)
        if not run.until(lambda: run.reached):
            raise harness.BenchmarkError(f"{' '.join(command)} did not come to {label}\n{run.output}")
        run.kill(TREE)
        told = -1
        while told < (told := len(self.events.labels)):
            time.sleep(QUIET)

    def prepare(self, turn: str) -> None:
        """Carry out the turns before, and make ready for this one."""
        while self.turns[self._next] != turn:
            self.make_ready(self.turns[self._next])
            self.carry_out()
        self.make_ready(turn)

    def make_ready(self, turn: str) -> None:
        self.turn = turn
        self._next = (self._next + 1) % len(self.turns)
        self.entry_before = self.entry

    @property
    def entry(self) -> dict[str, Any]:
        """What the store has of the credential."""
        return self.plays.store()["secrets_credentials"][self.case.credential]

    # -- what its users say

    def totals(self) -> Counter[str]:
        """Return what was ``accepted`` and ``refused`` until now."""
        raise NotImplementedError

    def counts(self) -> Logins:
        """Return what was accepted and refused since the last call."""
        from counters import Logins

        totals = self.totals()
        new, self._counted = totals - self._counted, totals
        return Logins(accepted=new["accepted"], refused=new["refused"])

    # -- the state

    def check(self, everything: bool = False) -> Check:
        """Say what is wrong."""
        problems = []
        try:
            self.check_value()
            check_nothing_left(self.stack, self.plays)
        except (AssertionError, LookupError, ValueError, OSError, subprocess.SubprocessError, StackError) as error:
            problems.append(str(error) or type(error).__name__)
        return Check(problems, 0)

    def check_value(self) -> None:
        """Assert that store, ``.env``, containers and whoever accepts it agree on the value."""
        raise NotImplementedError

    def check_published(self, expected: dict[str, str], services: list[str], others: list[str]) -> None:
        """Assert that ``.env`` and the services' only containers have these variables."""
        env = self.stack.env()
        found = {variable: env.get(variable, "") for variable in expected}
        assert found == expected, f".env and store disagree: {_differing(found, expected)}"
        one_each = check_containers(self.stack, [*services, *others])
        for service in services:
            given = dict(pair.split("=", 1) for pair in one_each[service]["Config"]["Env"])
            found = {variable: given.get(variable, "") for variable in expected}
            assert found == expected, f"{service} was not given what is stored: {_differing(found, expected)}"


def _differing(found: dict[str, str], expected: dict[str, str]) -> str:
    return ", ".join(variable for variable in expected if found[variable] != expected[variable])


def check_slots(entry: dict[str, Any], *expected: str) -> None:
    """Assert which slots the store has beside the current one: those expected, and no unfinished one."""
    known = ("pending", "dropped", "target", "next", "previous", "spare")
    found = sorted(set(known) & set(entry))
    assert found == sorted(expected), f"unfinished in the store: {', '.join(found)}, not {', '.join(expected)}"


# -- signing keys


class SigningKeys(Serverless):
    """The three phases of a signing key, again and again, while tokens are minted and verified."""

    turns = ("introduce", "promote", "retire")
    services = SERVICES
    stack: TokenStack

    def make_stack(self, name: str) -> Stack:
        return TokenStack(name, token_life=TOKEN_LIFE)

    @property
    def catalog(self) -> dict[str, Any]:
        return {"jwt": POLICY}

    @property
    def command(self) -> tuple[str, ...]:
        return ("rotate-jwt.yml", "-e", f"jwt_phase={self.turn}")

    def make_ready(self, turn: str) -> None:
        """Wait until the phase harms no live token, and take tokens away that nobody verifies any more."""
        super().make_ready(turn)
        if turn == "retire":
            self.stack.settle()
        for path in (self.stack.directory / "tokens").glob("*.tokens"):
            if time.time() - path.stat().st_mtime > 3 * TOKEN_LIFE:
                path.unlink()

    def totals(self) -> Counter[str]:
        found = self.stack.counts()
        return Counter(accepted=found["verified"], refused=found["rejected"])

    def control_is_seen(self) -> bool:
        """Show every service tokens of a key that is nobody's, and of the one that signs."""
        claims = {"iss": "probe", "exp": int(time.time()) + 600}
        verdicts = [
            self.stack.judge([jwt.encode(claims, key, "HS256")])
            for key in (secrets.token_hex(32), self.stack.env()["JWT_SIGNING_KEY"])
        ]
        each = 2 * len(self.stack.consumers)
        return [dict(one) for one in verdicts] == [{"rejected": each}, {"verified": each}]

    def check_value(self) -> None:
        entry = self.entry
        beside = {"introduce": "next", "promote": "previous"}.get(self.turn, "spare")
        check_slots(entry, beside)
        keys = {"JWT_SIGNING_KEY": entry["current"], "JWT_SIGNING_KEY_SECONDARY": entry[beside]}
        values = {variable: slot["password"] for variable, slot in keys.items()}
        self.check_published(values, list(self.stack.consumers), [])


class Emergency(SigningKeys):
    """A signing key that is compromised, while a phase is unfinished."""

    turns = ("emergency",)

    @property
    def command(self) -> tuple[str, ...]:
        return ("rotate-jwt.yml", "-e", "emergency=true")

    def make_ready(self, turn: str) -> None:
        super().make_ready(turn)
        point = "roll_out compose_rollout: docker start #1 after"
        self.leave_unfinished(point, "rotate-jwt.yml", "-e", "jwt_phase=introduce")

    def check_value(self) -> None:
        super().check_value()
        before = {slot["password"] for slot in (self.entry_before["current"], self.entry_before["spare"])}
        assert not before & set(self.stack.env().values()), "the compromised key is in .env"


# -- platforms


class OneConnector(Connectors):
    """The connector of one platform, which calls it all the time, and is quick to stop."""

    def __init__(self, name: str, platform: str) -> None:
        super().__init__(name)
        self.platform = platform
        self.consumers = (f"{platform}-connector",)

    def compose_model(self) -> dict:
        services = super().compose_model()["services"]
        connector = services[self.consumers[0]]
        connector["environment"].update(DRAIN_SECONDS="0.5", CALLS_EVERY="0.2")
        if self.platform == "whatsapp":
            # With which it would check what Meta sends.
            connector["environment"]["INSTAGRAM_APP_SECRET"] = "${INSTAGRAM_APP_SECRET}"
        # The engine's health checks would be most of the machine's work.
        connector["healthcheck"]["interval"] = "2s"
        return {"services": {name: services[name] for name in ("platform", "proxy", *self.consumers)}}

    def up(self, timeout: float = 120) -> None:
        super().up(timeout)
        nowhere: dict[str, dict[str, Any]] = {
            "telegram": NO_WEBHOOK,
            "whatsapp": {"callback": ""},
            "instagram": {"app_callback": ""},
        }
        for platform in nowhere.keys() - {self.platform}:
            self.control(**nowhere[platform])

    def catalog(self) -> dict:
        return {name: given for name, given in super().catalog().items() if name.startswith(self.platform)}


class PlatformDeployment(Serverless):
    """A connector; a case's credential is its platform's token, or its webhook's secret."""

    stack: OneConnector
    variables = {
        "telegram": "TELEGRAM_BOT_TOKEN",
        "telegram-webhook": "TELEGRAM_WEBHOOK_SECRET",
        "whatsapp": "WHATSAPP_API_TOKEN",
        "whatsapp-webhook": "WHATSAPP_WEBHOOK_VERIFY_TOKEN",
        "instagram": "INSTAGRAM_ACCESS_TOKEN",
        "instagram-webhook": "INSTAGRAM_VERIFY_TOKEN",
    }
    # What the platforms' stand-ins call it when something is accepted, and when it is refused.
    counters = {
        "calls": ("calls", "refused calls"),
        "updates": ("accepted", "rejected"),
        "verifications": ("verified", "unverified"),
    }
    # By which name they know a verify token.
    verify_tokens = {"whatsapp": "verify_token", "instagram": "app_verify_token"}

    def make_stack(self, name: str) -> Stack:
        return OneConnector(name, self.platform)

    @property
    def catalog(self) -> dict[str, Any]:
        return self.stack.catalog()

    @property
    def platform(self) -> str:
        return self.case.credential.partition("-")[0]

    @property
    def variable(self) -> str:
        return self.variables[self.case.credential]

    def start(self) -> None:
        super().start()
        self.stack.control(send=True, every=SENDS_EVERY)

    def totals(self) -> Counter[str]:
        found = self.stack.control()["counts"]
        accepted, refused = self.counters[self.case.counted]
        return Counter(accepted=found.get(accepted, 0), refused=found.get(refused, 0))

    def control_is_seen(self) -> bool:
        """Have the platform, for a moment, use or know another value than the connector."""
        self.counts()
        self.pretend("wrong")
        try:
            seen = self._until_counted("refused")
        finally:
            self.pretend("")
        # What was under way is counted with it.
        time.sleep(COUNTED)
        self.counts()
        return seen and self._until_counted("accepted")

    def _until_counted(self, what: str) -> bool:
        before, deadline = self.totals()[what], time.monotonic() + 20
        while self.totals()[what] <= before:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def pretend(self, wrong: str) -> None:
        """Have the platform take another value for the credential's; with an empty one, the right one again."""
        env = self.stack.env()
        value = env[self.variable]
        if self.case.counted == "updates":
            secret = wrong or env["TELEGRAM_WEBHOOK_SECRET"]
            self.stack.control(webhook={"bot": BOT, "url": self.stack.hook("telegram"), "secret": secret})
        elif self.case.counted == "verifications":
            self.stack.control(**{self.verify_tokens[self.platform]: wrong or value})
        elif self.platform == "telegram":
            self.stack.control(bot=f"{BOT}:{wrong}" if wrong else value)
        else:
            self.stack.control(**{"revoke" if wrong else self.platform: value})

    def check_platform(self, values: dict[str, str]) -> None:
        self.check_published(values, list(self.stack.consumers), ["platform", "proxy"])


class ApiToken(PlatformDeployment):
    """A token that a person brings. Telegram's old one is dead before; WhatsApp's waits for a person to end it."""

    @property
    def new_values(self) -> Path:
        return self.store_folder / ".new.yml"

    @property
    def command(self) -> tuple[str, ...]:
        return ("rotate.yml", "-e", f"rotate={self.case.credential}", "-e", f"@{self.new_values}")

    def make_ready(self, turn: str) -> None:
        """Have the token before ended, a new one issued, and brought."""
        super().make_ready(turn)
        self.token = new_token(self.platform)
        self.end_previous()
        self.stack.control(**{"bot" if self.platform == "telegram" else self.platform: self.token})
        text = yaml.safe_dump({"secrets_new_values": {self.case.credential: self.token}})
        self.new_values.write_bytes(self.plays.vault(text))

    def end_previous(self) -> None:
        if previous := self.entry.get("previous"):
            self.stack.control(revoke=previous["password"])

    def check_value(self) -> None:
        entry = self.entry
        check_slots(entry, "previous")
        current, previous = entry["current"]["password"], entry["previous"]
        assert current == self.token, "the store has another token than the one that was brought"
        assert previous["password"] == self.entry_before["current"]["password"], "the token before is not kept"
        assert {"revoked", "revoke_after"} & set(previous) == {self.previous_end}, f"before: {sorted(previous)}"
        self.check_platform({self.variable: current})

    @property
    def previous_end(self) -> str:
        """What the store says of the end of the token before."""
        return "revoked" if self.platform == "telegram" else "revoke_after"


class PollingBot(ApiToken):
    """The token of a bot without a webhook: of two connectors that poll at once, one ends with a conflict."""

    def start(self) -> None:
        super().start()
        self.stack.control(**NO_WEBHOOK)
        self.stack.docker("restart", *self.stack.containers(*self.stack.consumers))

    @property
    def conflicts(self) -> int:
        return self.stack.control()["counts"].get("conflicts", 0)

    def make_ready(self, turn: str) -> None:
        super().make_ready(turn)
        self.conflicts_before = self.conflicts

    def control_is_seen(self) -> bool:
        """Poll beside the connector, too."""
        before = self.conflicts
        self.stack.poll()
        return self.conflicts > before and super().control_is_seen()

    def check_value(self) -> None:
        super().check_value()
        assert self.conflicts == self.conflicts_before, "two connectors have polled at once"


class TokenEndedByApp(ApiToken):
    """A token that a person brings, while the platform ends the one before for the app's secret."""

    previous_end = "revoked"

    @property
    def catalog(self) -> dict[str, Any]:
        catalog = super().catalog
        catalog[self.platform] |= {"app_id": APP, "token": "meta-app"}
        return {**catalog, "meta-app": {"engine": "manual", "variables": {"secret": "INSTAGRAM_APP_SECRET"}}}

    def end_previous(self) -> None:
        """Nobody has to."""

    def check_value(self) -> None:
        super().check_value()
        assert self.entry["previous"]["password"] not in self.stack.control()[self.platform], "the old token works"


class RenewedToken(ApiToken):
    """A token that the platform renews; each renewal makes another one, and what was valid stays so."""

    @property
    def command(self) -> tuple[str, ...]:
        return ("rotate.yml", "-e", f"rotate={self.case.credential}")

    def make_ready(self, turn: str) -> None:
        """Have the token be old enough, for the platform and by the store."""
        store = self.plays.store()
        current = store["secrets_credentials"][self.case.credential]["current"]
        current["created"] = (datetime.now(UTC) - timedelta(days=2)).isoformat(timespec="seconds")
        self.plays.store_path.write_bytes(self.plays.vault(yaml.safe_dump(store)))
        super(ApiToken, self).make_ready(turn)
        self.stack.control(**{self.platform: current["password"]})

    def check_value(self) -> None:
        self.token = self.entry["current"]["password"]
        super().check_value()
        assert self.token != self.entry_before["current"]["password"], "the token is still the one before"
        assert self.token in self.stack.control()[self.platform], "the platform does not know the token"


class EndedToken(ApiToken):
    """The end of a token that was replaced before: a person has revoked it, and the platform is asked."""

    @property
    def command(self) -> tuple[str, ...]:
        return ("revoke.yml", "-e", f"revoke={self.case.credential}")

    def make_ready(self, turn: str) -> None:
        super().make_ready(turn)
        self.carry_out(*super().command)
        self.end_previous()

    def check_value(self) -> None:
        entry = self.entry
        check_slots(entry, "previous")
        assert "revoked" in entry["previous"], "the token before is not known to be dead"
        self.check_platform({self.variable: entry["current"]["password"]})


class Webhook(PlatformDeployment):
    """A webhook's secret, while the platform uses it all the time."""

    @property
    def command(self) -> tuple[str, ...]:
        return ("rotate.yml", "-e", f"rotate={self.case.credential}")

    def check_value(self) -> None:
        entry = self.entry
        check_slots(entry, "previous")
        assert "revoked" in entry["previous"], "the secret before has not ended"
        assert entry["current"] != self.entry_before["current"], "the secret is still the one before"
        self.check_current()

    def check_current(self) -> None:
        """Assert that the platform and the connector know the current secret, and that the connector knows no other."""
        current = self.entry["current"]["password"]
        known = self.stack.control()
        verify_token = self.verify_tokens.get(self.platform, "")
        at_platform = known[verify_token] if verify_token else known["secrets"][BOT]
        assert at_platform == current, f"{self.platform} has another secret than the store"
        self.check_platform({self.variable: current, f"{self.variable}_PREVIOUS": ""})


class WebhookBack(Webhook):
    """The way back from a webhook's rotation of which the platform has been told."""

    @property
    def command(self) -> tuple[str, ...]:
        return ("abort.yml", "-e", f"rotate={self.case.credential}")

    def make_ready(self, turn: str) -> None:
        super().make_ready(turn)
        self.leave_unfinished("drain webhook_credential: POST setWebhook #1 after", *super().command)

    def check_value(self) -> None:
        entry = self.entry
        check_slots(entry, *(["previous"] if "previous" in self.entry_before else []))
        assert entry["current"] == self.entry_before["current"], "the secret is not the one before"
        self.check_current()
