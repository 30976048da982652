# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What platforms know: API tokens that a person brings or the platform renews, and webhooks' secrets."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml
from connectors import new_token
from standins import APP, ECHO_POSTED

if TYPE_CHECKING:
    from scenario import Scenario

STEP = r"^\d\d:\d\d:\d\d db1 +{} "
ASKED = (STEP.format("create"), r"Using module file .*/api_token_credential_info\.py", "SSH: EXEC")
TOLD = (r"Using module file .*/webhook_credential\.py", "SSH: EXEC")


class Tokens:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.stack, self.plays = scenario, scenario.stack, scenario.plays

    def new(self, platform: str, known: bool = True) -> str:
        """Have a token issued, or make one up that the platform does not know."""
        token = new_token(platform)
        self.scenario.brought.append((f"brought for {platform}", token))
        if known:
            self.stack.control(**{{"telegram": "bot"}.get(platform, platform): token})
        return token

    def bring(self, **tokens: str) -> tuple[str, str]:
        """Write tokens to a vaulted file, as a person does; returns the arguments of the play."""
        path = self.plays.folder / ".new.yml"
        path.write_bytes(self.plays.vault(yaml.safe_dump({"secrets_new_values": tokens})))
        return "-e", f"@{path}"

    def rotate(self, name: str, platform: str, token: str, **options: Any) -> str:
        given = self.bring(**{platform: token})
        return self.scenario.run(f"tokens: {name}", "rotate.yml", "-e", f"rotate={platform}", *given, **options)

    def part(self) -> None:
        self.faulty("echo", "telegram")
        self.killed()

    def whole(self) -> None:
        shows = "WhatsApp rejects the new token"
        self.rotate("rejected", "whatsapp", self.new("whatsapp", known=False), ends=2, shows=shows)
        for fault, platform in (("echo", "whatsapp"), ("malformed", "whatsapp"), ("down", "telegram")):
            self.faulty(fault, platform)
        given = self.bring(whatsapp=self.new("whatsapp", known=False))
        self.scenario.refuses("rotate-tokens.yml", "rotate-tokens.yml", *given)
        self.roll_out_fails()
        self.all_at_once()
        self.by_app()
        self.part()
        self.survey()

    def faulty(self, fault: str, platform: str) -> None:
        """Ask a platform that does not answer as it should, but may well say the token again."""
        self.stack.control(fault=fault)
        token = self.new(platform, known=False)
        self.rotate(f"{platform}, {fault}", platform, token, ends=2, shows="STOPPED at open(.|\n)*Nothing was changed")
        self.stack.control(fault="")

    def roll_out_fails(self) -> None:
        """A token that the platform does not know any more when the connector begins with it; and one that is tested in vain."""
        token = self.new("whatsapp")
        at = {STEP.format("create"): partial(self.stack.control, fault="echo")}
        self.rotate("test fails", "whatsapp", token, at=at, ends=2, shows="STOPPED  whatsapp at test")
        self.stack.control(fault="")
        at = {STEP.format("publish"): partial(self.stack.control, revoke=token)}
        self.rotate("roll out fails", "whatsapp", token, at=at, ends=2, shows="STOPPED  whatsapp at roll out")

    def all_at_once(self) -> None:
        """Two are brought, and the third is renewed by its platform; then the end of an old one."""
        old = self.stack.env()["WHATSAPP_API_TOKEN"]
        given = self.bring(whatsapp=self.new("whatsapp"), telegram=self.new("telegram"))
        self.scenario.run("tokens: plan", "rotate-tokens.yml", *given, "--check", ends=0, shows="PLAN  instagram")
        shows = r"(?s)\A" + "".join(f"(?=.*ROTATED  {name})" for name in ("telegram", "whatsapp", "instagram"))
        self.scenario.run("tokens: all", "rotate-tokens.yml", *given, runner=True, ends=0, shows=shows)
        revoke = ("revoke.yml", "-e", "revoke=whatsapp", "-e", "confirmed=true")
        self.scenario.run("tokens: not ended yet", *revoke, ends=2, shows="still accepts the old token")
        self.stack.control(revoke=old)
        self.scenario.run("tokens: ended", *revoke, ends=0, shows="old token refused by WhatsApp")
        whatsapp = self.new("whatsapp")
        command = ("rotate.yml", "-e", "rotate=whatsapp", *self.bring(whatsapp=whatsapp))
        abort = ("abort.yml", "-e", "rotate=whatsapp")
        self.scenario.killed("tokens: whatsapp", STEP.format("roll out"), command=command, then=abort, shows="ABORTED")

    def by_app(self) -> None:
        """The old token ends by a call that is made with the app's secret; the first time it has another one."""
        self.plays.variables["secrets_catalog"]["whatsapp"] |= {"app_id": APP, "token": "instagram-app"}
        self.plays.write_inventory()
        token, secret = self.new("whatsapp"), self.stack.env()["INSTAGRAM_APP_SECRET"]
        self.stack.control(app_secret="another")
        self.rotate("ended in vain", "whatsapp", token, ends=2, shows="STOPPED  whatsapp at revoke")
        self.stack.control(app_secret=secret)
        self.rotate("ended by its app", "whatsapp", token, ends=0, shows="old token ended by WhatsApp's API")

    def killed(self) -> None:
        command = ("rotate.yml", "-e", "rotate=telegram", *self.bring(telegram=self.new("telegram")))
        self.scenario.killed("tokens: telegram", *ASKED, command=command)

    def survey(self) -> None:
        """AWX has a survey's answers in a file that is removed after the job."""
        path = self.scenario.folder / "runner" / "env" / "extravars"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"rotate": "telegram", "secrets_new_value": self.new("telegram")}))
        self.scenario.run("tokens: survey", "rotate.yml", runner=True, ends=0, shows="ROTATED  telegram")
        path.unlink()


class Webhooks:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.stack = scenario, scenario.stack

    def rotate(self, name: str, *platforms: str, **options: Any) -> str:
        named = ",".join(f"{platform}-webhook" for platform in platforms)
        return self.scenario.run(f"webhooks: {name}", "rotate.yml", "-e", f"rotate={named}", **options)

    def part(self) -> None:
        self.stack.control(fault=ECHO_POSTED)
        self.rotate("the platform echoes", "telegram", ends=2, shows="STOPPED  telegram-webhook at drain")
        self.stack.control(fault="")

    def whole(self) -> None:
        self.part()
        self.scenario.killed("webhooks: telegram", *TOLD, command=("rotate.yml", "-e", "rotate=telegram-webhook"))
        self.stack.control(refusing="Wrong response from the webhook: 403 Forbidden")
        # On the way back it takes the present one again.
        at = {"Telegram was refused by the webhook": partial(self.stack.control, refusing="")}
        self.rotate("refused", "telegram", at=at, ends=2, shows="STOPPED  telegram-webhook at drain")
        shows = "ROTATED  telegram-webhook(.|\n)*ROTATED  whatsapp-webhook"
        self.rotate("both", "telegram", "whatsapp", runner=True, ends=0, shows=shows)
        command = ("rotate.yml", "-e", "rotate=whatsapp-webhook")
        abort = ("abort.yml", "-e", "rotate=whatsapp-webhook")
        self.scenario.killed(
            "webhooks: whatsapp", STEP.format("roll out"), command=command, then=abort, shows="ABORTED"
        )
