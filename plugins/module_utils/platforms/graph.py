# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Meta's Graph API, as WhatsApp's Cloud API and Instagram use it."""

from __future__ import annotations

import urllib.parse
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.http import (
    Answer,
    Connection,
    Unclear,
    rate_limited,
    said,
)

# Codes of errors: the token is expired, revoked or none; too many calls; the webhook has refused the verify token.
INVALID_TOKEN = (102, 190)
CALLBACK_REFUSED = 2200
RATE_LIMITS = (4, 17, 32, 613, 80007, 130429)


def call(
    connection: Connection,
    path: str,
    token: str,
    query: dict[str, str] | None = None,
    data: dict[str, Any] | None = None,
    secrets: tuple[str, ...] = (),
    in_query: bool = False,
) -> dict[str, Any]:
    """Return the body of an answer without an error; raises :class:`Unclear`."""
    hidden = (token, *secrets)
    query = {**(query or {}), **({"access_token": token} if in_query else {})}
    answer = connection.call(path, hidden, query=query, data=data, bearer=None if in_query else token)
    if answer.status == 200 and "error" not in answer.body:
        return answer.body
    raise _unclear(answer, hidden)


def _unclear(answer: Answer, secrets: tuple[str, ...]) -> Unclear:
    error = answer.body.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if answer.status == 429 or code in RATE_LIMITS:
        return rate_limited(answer.retry_after)
    if not isinstance(error, dict) or not isinstance(code, int):
        return Unclear(f"gives no answer of the Graph API (status {answer.status})")
    if code in INVALID_TOKEN and answer.status in (400, 401):
        return Unclear(f"does not accept the token (error {code})", rejected=True)
    reason = said(error.get("message"), secrets) or "no reason given"
    return Unclear(f"answers {answer.status}, error {code}: {reason}", refused=code == CALLBACK_REFUSED)


def _named(found: dict[str, Any], key: str, name: str, token: str, what: str) -> dict[str, Any]:
    identity = found.get(key)
    if not isinstance(identity, (str, int)) or not str(identity).isdecimal():
        raise Unclear(f"gives no answer of the Graph API to {what}")
    return {
        "status": "accepted",
        "reason": "",
        "account": {"id": str(identity), "name": said(found.get(name), (token,)) or str(identity)},
    }


def phone_number(connection: Connection, token: str, number: str) -> dict[str, Any]:
    """Return the outcome of reading a business phone number, which the token has to be allowed to."""
    fields = {"fields": "id,display_phone_number,verified_name"}
    found = call(connection, urllib.parse.quote(number, safe=""), token, fields)
    outcome = _named(found, "id", "display_phone_number", token, "the phone number")
    if outcome["account"]["id"] != number:
        raise Unclear(f"answers for another phone number id than {number}")
    return outcome


def me(connection: Connection, token: str) -> dict[str, Any]:
    """Return the outcome of ``me`` of an Instagram account."""
    found = call(connection, "me", token, {"fields": "user_id,username"})
    # As it is documented, and as it is: without the list.
    rows = found.get("data")
    if isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], dict):
        found = rows[0]
    return _named(found, "user_id" if "user_id" in found else "id", "username", token, "me")


def refreshed(connection: Connection, token: str) -> tuple[str, int]:
    """Return the token that takes over from a long-lived Instagram token, and for how many seconds it is valid.

    The token has to be a day old at least, and not expired; it stays valid beside the new one.
    """
    found = call(connection, "refresh_access_token", token, {"grant_type": "ig_refresh_token"}, in_query=True)
    new, valid = found.get("access_token"), found.get("expires_in")
    if not isinstance(new, str) or not new.strip() or not new.isprintable() or not isinstance(valid, int) or valid <= 0:
        raise Unclear("gives no answer of the Graph API to refresh_access_token")
    return new, valid


def end(connection: Connection, token: str, app: str, app_secret: str, access_token: str) -> None:
    """End one token that was issued for an app; ``access_token`` is another one, with which the call is made."""
    query = {"client_id": app, "client_secret": app_secret, "revoke_token": token}
    found = call(connection, "oauth/revoke", access_token, query, secrets=(token, app_secret), in_query=True)
    _succeeded(found, "the token has ended")


def whatsapp_callback(connection: Connection, token: str, account: str) -> str:
    """Return where the Cloud API sends a business account's updates to."""
    found = call(connection, f"{urllib.parse.quote(account, safe='')}/subscribed_apps", token).get("data")
    rows = [row for row in (found if isinstance(found, list) else []) if isinstance(row, dict)]
    urls = {row["override_callback_uri"] for row in rows if isinstance(row.get("override_callback_uri"), str)}
    if len(urls) != 1:
        raise Unclear(
            f"has {len(urls) or 'no'} callback addresses for the business account {account}; say which one: callback"
        )
    return urls.pop()


def set_whatsapp_verify_token(
    connection: Connection, token: str, account: str, secret: str, callback: str = ""
) -> None:
    """Have the Cloud API subscribe the account's webhook anew with another verify token, which it tries at once."""
    callback = callback or whatsapp_callback(connection, token, account)
    path = f"{urllib.parse.quote(account, safe='')}/subscribed_apps"
    data = {"override_callback_uri": callback, "verify_token": secret}
    _succeeded(call(connection, path, token, data=data, secrets=(secret,)))


def instagram_subscription(connection: Connection, app: str, app_secret: str, callback: str = "") -> tuple[str, str]:
    """Return where an app's updates of Instagram are sent to, and of which fields."""
    path = f"{urllib.parse.quote(app, safe='')}/subscriptions"
    found = call(connection, path, f"{app}|{app_secret}", secrets=(app_secret,)).get("data")
    rows = [row for row in (found if isinstance(found, list) else []) if isinstance(row, dict)]
    row = next((row for row in rows if row.get("object") == "instagram"), {})
    given = row.get("fields")
    fields = [str(one.get("name")) for one in (given if isinstance(given, list) else []) if isinstance(one, dict)]
    callback = callback or row.get("callback_url") or ""
    if not isinstance(callback, str) or not callback or not fields:
        raise Unclear(f"has no subscription of the app {app} to instagram; make it in the app's dashboard first")
    return callback, ",".join(fields)


def set_instagram_verify_token(
    connection: Connection, app: str, app_secret: str, secret: str, callback: str = ""
) -> None:
    """Have the app's subscription to Instagram made anew with another verify token, which the platform tries at once."""
    callback, fields = instagram_subscription(connection, app, app_secret, callback)
    data = {"object": "instagram", "callback_url": callback, "fields": fields, "verify_token": secret}
    # Nobody is told whether it is set now; whoever does not need the values passes over them.
    data["include_values"] = True
    path = f"{urllib.parse.quote(app, safe='')}/subscriptions"
    _succeeded(call(connection, path, f"{app}|{app_secret}", data=data, secrets=(app_secret, secret)))


def _succeeded(found: dict[str, Any], what: str = "the subscription succeeded") -> None:
    if found.get("success") not in (True, "true"):
        raise Unclear(f"does not say that {what}")
