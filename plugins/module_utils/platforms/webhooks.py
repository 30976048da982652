# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The secrets of webhooks: what a platform sends with each update, or tries once when it is told where to send them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms import graph, telegram
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.http import Connection, Unclear, said


@dataclass(frozen=True)
class Webhook:
    """What is taken for granted of a platform's webhooks."""

    title: str
    api: str
    variable: str
    # What the call needs beside a token, and the variables of .env that hold it; what it needs of the catalog.
    settings: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)


WEBHOOKS = {
    "telegram": Webhook("Telegram", "https://api.telegram.org", "TELEGRAM_WEBHOOK_SECRET"),
    "whatsapp": Webhook(
        "WhatsApp",
        "https://graph.facebook.com",
        "WHATSAPP_WEBHOOK_VERIFY_TOKEN",
        settings={"account_id": "WHATSAPP_BUSINESS_ACCOUNT_ID"},
    ),
    "instagram": Webhook(
        "Instagram",
        "https://graph.facebook.com",
        "INSTAGRAM_VERIFY_TOKEN",
        declared={"app_id": "the app's id", "token": "the entry with the app's secret"},
    ),
}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "platform": {"type": "str", "choices": sorted(WEBHOOKS), "required": True},
    "token": {"type": "str", "required": True, "no_log": True},
    "account_id": {"type": "str"},
    "app_id": {"type": "str"},
    "callback": {"type": "str"},
    "api": {"type": "str"},
    "ca": {"type": "path"},
    "request_timeout": {"type": "float", "default": 20},
}
REQUIRED_IF = [("platform", "whatsapp", ["account_id"]), ("platform", "instagram", ["app_id"])]


def connection(params: Mapping[str, Any]) -> Connection:
    """Return the connection that a module's options ask for."""
    if params["request_timeout"] <= 0:
        raise SecretsError(f"request_timeout: {params['request_timeout']:g} is no time; write 20")
    return Connection(params["api"] or WEBHOOKS[params["platform"]].api, params["ca"], params["request_timeout"])


def look(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether the platform can be asked, and where it sends updates to: ``status``, ``reason``, ``url``."""
    title = WEBHOOKS[params["platform"]].title
    try:
        url = _url(connection(params), params)
    except Unclear as error:
        return {"status": "unknown", "reason": f"{title} {error.reason}", "url": ""}
    return {"status": "accepted", "reason": "", "url": url}


def _url(to: Connection, params: Mapping[str, Any]) -> str:
    if params["platform"] == "telegram":
        found = str(telegram.own_webhook(to, params["token"])["url"])
    elif params["platform"] == "whatsapp":
        found = params["callback"] or graph.whatsapp_callback(to, params["token"], params["account_id"])
    else:
        found = graph.instagram_subscription(to, params["app_id"], params["token"], params["callback"] or "")[0]
    return said(found, (params["token"],))


def tell(params: Mapping[str, Any], secret: str, settle: float) -> None:
    """Have the platform use another secret; raises where it does not, or is refused with it within ``settle`` seconds."""
    to, token, title = connection(params), params["token"], WEBHOOKS[params["platform"]].title
    try:
        if params["platform"] == "whatsapp":
            graph.set_whatsapp_verify_token(to, token, params["account_id"], secret, params["callback"] or "")
        elif params["platform"] == "instagram":
            graph.set_instagram_verify_token(to, params["app_id"], token, secret, params["callback"] or "")
        else:
            before = telegram.set_webhook_secret(to, token, secret).get("last_error_date")
            time.sleep(settle)
            after = telegram.webhook(to, token)
            if after.get("last_error_date") not in (None, before):
                why = said(after.get("last_error_message"), (token, secret))
                raise SecretsError(f"{title} was refused by the webhook: {why}", refused=True)
    except Unclear as error:
        raise SecretsError(f"{title} {error.reason}", refused=error.refused) from None
