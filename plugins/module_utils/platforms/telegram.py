# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Telegram's Bot API. A bot has one token, and it stands in the path of every URL: no URL is ever shown."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.http import (
    Answer,
    Connection,
    Unclear,
    rate_limited,
    said,
)

TOKEN = re.compile(r"([0-9]+):[A-Za-z0-9_-]+")


def bot_id(token: str) -> str:
    """Return the id of the bot that a token is made for; empty where it is no bot token."""
    match = TOKEN.fullmatch(token)
    return match.group(1) if match else ""


def call(
    connection: Connection, token: str, method: str, data: dict[str, Any] | None = None, secrets: tuple[str, ...] = ()
) -> Any:
    """Return the ``result`` of a method; raises :class:`Unclear`."""
    hidden = (token, *secrets)
    path = f"bot{urllib.parse.quote(token, safe=':')}/{method}"
    answer = connection.call(path, hidden, data=data)
    if answer.status == 200 and answer.body.get("ok") is True and "result" in answer.body:
        return answer.body["result"]
    raise _unclear(answer, hidden)


def _unclear(answer: Answer, secrets: tuple[str, ...]) -> Unclear:
    body = answer.body
    if answer.status == 429 or body.get("error_code") == 429:
        given = body.get("parameters")
        seconds = given.get("retry_after") if isinstance(given, dict) else None
        return rate_limited(seconds if isinstance(seconds, (int, float)) else answer.retry_after)
    if body.get("ok") is not False or body.get("error_code") != answer.status:
        return Unclear(f"gives no answer of the Bot API (status {answer.status})")
    if answer.status == 401:
        return Unclear("does not know the token (401 Unauthorized)", rejected=True)
    return Unclear(f"answers {answer.status}: {said(body.get('description'), secrets) or 'no reason given'}")


def bot(connection: Connection, token: str) -> dict[str, Any]:
    """Return the outcome of ``getMe``, and whether updates come by webhook or are polled for."""
    found = call(connection, token, "getMe")
    if not isinstance(found, dict) or not isinstance(found.get("id"), int) or found.get("is_bot") is not True:
        raise Unclear("gives no answer of the Bot API to getMe")
    account = {"id": str(found["id"]), "name": f"@{said(found.get('username'), (token,))}"}
    return {"status": "accepted", "reason": "", "account": account, "webhook": bool(webhook(connection, token)["url"])}


def webhook(connection: Connection, token: str) -> dict[str, Any]:
    """Return what ``getWebhookInfo`` says; ``url`` is empty where the bot polls."""
    found = call(connection, token, "getWebhookInfo")
    if not isinstance(found, dict) or not isinstance(found.get("url"), str):
        raise Unclear("gives no answer of the Bot API to getWebhookInfo")
    return found


def own_webhook(connection: Connection, token: str) -> dict[str, Any]:
    """Return what ``getWebhookInfo`` says of a webhook that may be set anew; raises :class:`Unclear` where there is none."""
    found = webhook(connection, token)
    if not found["url"]:
        raise Unclear("sends no updates to a webhook: none is set (getWebhookInfo)")
    if found.get("has_custom_certificate"):
        raise Unclear(
            "has a certificate of your own for the webhook, which a call without it would drop; set it by hand"
        )
    return found


def set_webhook_secret(connection: Connection, token: str, secret: str) -> dict[str, Any]:
    """Have Telegram send another secret with each update; where updates go to stays as it is.

    Returns what ``getWebhookInfo`` said before.
    """
    found = own_webhook(connection, token)
    # What is left out of allowed_updates stays as it was; the number of connections would not.
    data = {"url": found["url"], "secret_token": secret}
    if isinstance(found.get("max_connections"), int):
        data["max_connections"] = found["max_connections"]
    if call(connection, token, "setWebhook", data, (secret,)) is not True:
        raise Unclear("gives no answer of the Bot API to setWebhook")
    return found
