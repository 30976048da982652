# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a platform accepts a token, and whose it is.

An outcome is a dict with ``status`` and ``reason``. Only the platform's own answer that it does not know the token makes a
``rejected``; whatever else goes wrong (slow, down, rate-limiting, an answer that is none) proves nothing: ``unknown``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms import graph, telegram
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.http import Connection, Unclear


@dataclass(frozen=True)
class Platform:
    """What is taken for granted of a platform."""

    title: str
    api: str
    # What a person does to end an old token.
    ending: str
    # What a connector's log says once it works.
    ready_log: str
    # Days that a person has for it.
    grace: int
    # What the API has to be told beside the token, and the variables of .env that hold it.
    settings: Mapping[str, str] = field(default_factory=dict)
    # Whether the API makes a new token of the old one.
    renews: bool = False
    # Whether there is one token at a time: who issues a new one has ended the old one.
    single: bool = False
    # Whether the API ends one token for who has the secret of the app that it was issued for.
    ends_by_app: bool = False


PLATFORMS = {
    "whatsapp": Platform(
        title="WhatsApp",
        api="https://graph.facebook.com",
        ending="revoke the old token of the system user in Meta's business settings (Users, System users)",
        ready_log="Connected to WhatsApp API",
        grace=7,
        settings={"phone_number_id": "WHATSAPP_PHONE_NUMBER_ID"},
        ends_by_app=True,
    ),
    "telegram": Platform(
        title="Telegram",
        api="https://api.telegram.org",
        ending="end the old token with BotFather's /revoke",
        ready_log="Connected to Telegram API",
        grace=0,
        single=True,
    ),
    "instagram": Platform(
        title="Instagram",
        api="https://graph.instagram.com",
        ending="let the old token run out (60 days after it was issued)",
        ready_log="Connected to Instagram API",
        grace=60,
        renews=True,
    ),
}

# The options by which a module is told the platform.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "platform": {"type": "str", "choices": sorted(PLATFORMS), "required": True},
    "phone_number_id": {"type": "str"},
    "api": {"type": "str"},
    "ca": {"type": "path"},
    "request_timeout": {"type": "float", "default": 20},
}
# Those that nobody may see.
SECRET_OPTIONS = ("access_token", "app_secret", "credential", "credentials", "seal_key")
REQUIRED_IF = [("platform", "whatsapp", ["phone_number_id"])]


def look(platform: str, connection: Connection, token: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the outcome of one harmless call with a token; an accepted one has ``account`` with ``id`` and ``name``."""
    looks: dict[str, Callable[[], dict[str, Any]]] = {
        "whatsapp": lambda: graph.phone_number(connection, token, settings["phone_number_id"]),
        "telegram": lambda: telegram.bot(connection, token),
        "instagram": lambda: graph.me(connection, token),
    }
    try:
        return looks[platform]()
    except Unclear as error:
        return {
            "status": "rejected" if error.rejected else "unknown",
            "reason": f"{PLATFORMS[platform].title} {error.reason}",
        }


def connection(params: Mapping[str, Any]) -> Connection:
    """Return the connection that a module's options ask for."""
    if params["request_timeout"] <= 0:
        raise SecretsError(f"request_timeout: {params['request_timeout']:g} is no time; write 20")
    return Connection(params["api"] or PLATFORMS[params["platform"]].api, params["ca"], params["request_timeout"])


def without_tokens(params: dict[str, Any]) -> dict[str, Any]:
    """Return a module's options as anybody may see them."""
    shown = {key: value for key, value in params.items() if key not in SECRET_OPTIONS}
    return {**shown, "credentials": [given["label"] for given in params.get("credentials") or []]}
