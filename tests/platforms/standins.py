# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-ins for Telegram's Bot API, Meta's Graph API and Instagram's, at the edge of their protocols.

They follow the platforms' published shapes: what they check, how they refuse, and that they call back. Their own extra is
``/control``, by which a test makes them issue and revoke tokens, limit the rate, be slow, down, or answer rubbish. Python's
standard library alone, so that they run in a container of the reference consumer, too.
"""

from __future__ import annotations

import contextlib
import json
import select
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NUMBER = "106540352242922"
ACCOUNT = "102290129340398"
INSTAGRAM = "17841400000000001"
APP = "1234567890"
APP_SECRET = "0123456789abcdef0123456789abcdef"
SENDS_EVERY = 0.02
# A fault of the calls alone that change something.
ECHO_POSTED = "echo what is posted"
SETTABLE = {
    "fault",
    "refusing",
    "callback",
    "verify_token",
    "app_callback",
    "app_verify_token",
    "app_secret",
    "fields",
}


class Platforms:
    """What the platforms know. ``fault``: how all of them misbehave now."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.fault = ""
        self.flat = False
        # By the bot's id; a bot has one token.
        self.bots: dict[str, dict[str, Any]] = {}
        self.whatsapp: set[str] = set()
        self.refusing = ""  # what Telegram says of an update that was refused after the secret has changed
        # Of the business account (WhatsApp), and of the app's subscription to Instagram.
        self.callback, self.verify_token = "", ""
        self.app_callback, self.app_verify_token = "", ""
        self.app_secret = APP_SECRET
        self.fields: list[str] = []  # of Instagram that the app is subscribed to
        self.with_values = True  # whether an update has what has changed
        self.instagram: dict[str, bool] = {}  # whether it is a day old
        self.counts: Counter[str] = Counter()
        self.sending = threading.Event()
        self.sends_every = SENDS_EVERY

    # -- what a test does, and a person at the platform's own pages

    def control(self, order: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            if "bot" in order:
                # As BotFather: a new token ends the old one at once, and the webhook stays.
                token = order["bot"]
                bot = self.bots.setdefault(token.split(":")[0], {"webhook": {"url": ""}, "secret": "", "polls": 0})
                bot["token"] = token
            if "webhook" in order:
                bot = self.bots[order["webhook"]["bot"]]
                bot.update(
                    webhook={"url": order["webhook"]["url"], "max_connections": 7}, secret=order["webhook"]["secret"]
                )
            if "whatsapp" in order:
                self.whatsapp.add(order["whatsapp"])
            for name in SETTABLE & set(order):
                setattr(self, name, order[name])
            if "instagram" in order:
                self.instagram[order["instagram"]] = order.get("aged", True)
            if "revoke" in order:
                self.whatsapp.discard(order["revoke"])
                self.instagram.pop(order["revoke"], None)
            self.sends_every = order.get("every", self.sends_every)
            if "send" in order:
                (self.sending.set if order["send"] else self.sending.clear)()
            return {
                "counts": dict(self.counts),
                "secrets": {name: bot["secret"] for name, bot in self.bots.items()},
                "verify_token": self.verify_token,
                "app_verify_token": self.app_verify_token,
                "instagram": sorted(self.instagram),
                "whatsapp": sorted(self.whatsapp),
            }

    # -- Telegram

    def telegram(self, path: str, data: dict[str, Any], hung_up: Callable[[], bool]) -> tuple[int, dict[str, Any]]:
        token, _slash, method = path.removeprefix("bot").partition("/")
        bot = self.bots.get(token.split(":")[0])
        if not token.split(":")[0].isdecimal() or ":" not in token:
            return self.telegram_error(404, "Not Found")
        if not bot or bot["token"] != token:
            return self.telegram_error(401, "Unauthorized")
        self.counts[method] += 1
        if method == "getMe":
            return 200, {"ok": True, "result": {"id": int(token.split(":")[0]), "is_bot": True, "username": "chat_bot"}}
        if method == "getWebhookInfo":
            return 200, {
                "ok": True,
                "result": {"has_custom_certificate": False, "pending_update_count": 0, **bot["webhook"]},
            }
        if method == "setWebhook":
            kept = {"max_connections": data.get("max_connections", 40)}
            if self.refusing:
                kept |= {"last_error_date": int(time.time()), "last_error_message": self.refusing}
            bot.update(webhook={"url": data["url"], **kept}, secret=data.get("secret_token", ""))
            return 200, {"ok": True, "result": True, "description": "Webhook was set"}
        if method == "getUpdates":
            return self.get_updates(bot, data.get("timeout", 0), hung_up)
        return self.telegram_error(404, "Not Found")

    def get_updates(
        self, bot: dict[str, Any], seconds: float, hung_up: Callable[[], bool]
    ) -> tuple[int, dict[str, Any]]:
        """Answer a poll: of two at once, the first one ends with a conflict."""
        if bot["webhook"]["url"]:
            return self.telegram_error(409, "Conflict: can't use getUpdates method while webhook is active")
        with self.lock:
            bot["polls"] += 1
            mine = bot["polls"]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not hung_up():
            if bot["polls"] != mine:
                self.counts["conflicts"] += 1
                return self.telegram_error(
                    409,
                    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
                )
            time.sleep(0.02)
        return 200, {"ok": True, "result": []}

    @staticmethod
    def telegram_error(code: int, text: str, **more: Any) -> tuple[int, dict[str, Any]]:
        return code, {"ok": False, "error_code": code, "description": text, **more}

    # -- Meta

    @staticmethod
    def graph_error(status: int, code: int, text: str, **more: Any) -> tuple[int, dict[str, Any]]:
        error = {"message": text, "type": "OAuthException", "code": code, "fbtrace_id": "A1b2C3", **more}
        return status, {"error": error}

    def graph(
        self, path: str, query: dict[str, str], data: dict[str, Any] | None, token: str
    ) -> tuple[int, dict[str, Any]]:
        if path == f"{APP}/subscriptions" and token == f"{APP}|{self.app_secret}":
            return self.subscriptions(data)
        if path == "oauth/revoke" and query.get("access_token") in self.whatsapp:
            return self.graph_revoked(query)
        if token not in self.whatsapp:
            return self.graph_error(
                401, 190, f"Error validating access token: {token} is no session", error_subcode=460
            )
        if path == NUMBER:
            return 200, {"id": NUMBER, "display_phone_number": "+1 555 0100", "verified_name": "Chat"}
        if path == f"{ACCOUNT}/subscribed_apps" and data is None:
            row: dict[str, Any] = {"whatsapp_business_api_data": {"id": "670843887433847", "name": "Chat"}}
            return 200, {"data": [{**row, "override_callback_uri": self.callback} if self.callback else row]}
        if path == f"{ACCOUNT}/subscribed_apps" and data is not None:
            if not self.verified(data["override_callback_uri"], data["verify_token"]):
                return self.graph_error(400, 2200, "Callback verification failed: HTTP Status Code = 403")
            self.callback, self.verify_token = data["override_callback_uri"], data["verify_token"]
            return 200, {"success": True}
        return self.graph_error(
            400, 100, f"Unsupported request. Object with ID '{path}' does not exist", error_subcode=33
        )

    def graph_revoked(self, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """End one token for who knows the app's secret."""
        if (query["client_id"], query["client_secret"]) != (APP, self.app_secret):
            text = f"Error validating application. Cannot get application with secret {query['client_secret']}"
            return self.graph_error(400, 101, text)
        self.whatsapp.discard(query["revoke_token"])
        return 200, {"success": True}

    def subscriptions(self, data: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        """The app's subscriptions; one is made anew as a whole, fields and all."""
        if data is None:
            rows = [{"object": "page", "callback_url": "https://other.example.org", "fields": [{"name": "feed"}]}]
            if self.fields:
                fields = [{"name": name, "version": "v23.0"} for name in self.fields]
                rows.append(
                    {"object": "instagram", "callback_url": self.app_callback, "active": True, "fields": fields}
                )
            return 200, {"data": rows}
        if not self.verified(data["callback_url"], data["verify_token"]):
            return self.graph_error(400, 2200, "Callback verification failed: HTTP Status Code = 403")
        self.app_callback, self.app_verify_token = data["callback_url"], data["verify_token"]
        self.fields, self.with_values = data["fields"].split(","), data.get("include_values", False)
        return 200, {"success": "true"}

    def verified(self, callback: str, verify_token: str) -> bool:
        """Ask the callback for the challenge, as the platform does before it believes in a subscription."""
        try:
            return self.try_callback(callback, verify_token)
        except OSError:
            return False

    @staticmethod
    def try_callback(callback: str, verify_token: str) -> bool:
        """Tell whether the callback knows a verify token; raises OSError where it does not answer."""
        asked = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": verify_token}
        try:
            with urllib.request.urlopen(f"{callback}?{urllib.parse.urlencode(asked)}", timeout=5) as answer:
                return answer.read() == b"1158201444"
        except urllib.error.HTTPError as error:
            if error.code == 403:
                return False
            raise

    def instagram_api(self, path: str, query: dict[str, str], token: str) -> tuple[int, dict[str, Any]]:
        token = token or query.get("access_token", "")
        if token not in self.instagram:
            return self.graph_error(400, 190, "Invalid OAuth access token - Cannot parse access token")
        if path == "me":
            account = {"user_id": INSTAGRAM, "username": "chat"}
            # The documented answer has a list; the flat one has been seen, too.
            return 200, account if self.flat else {"data": [account]}
        if path == "refresh_access_token" and query.get("grant_type") == "ig_refresh_token":
            if not self.instagram[token]:
                return self.graph_error(400, 10, "The access token is too young to be refreshed")
            new = f"IGAA{len(self.instagram):04}{token[-24:]}"
            self.instagram[new] = False
            return 200, {"access_token": new, "token_type": "bearer", "expires_in": 5183944}
        return self.graph_error(400, 100, "Unsupported get request")

    # -- updates to webhooks

    def send(self) -> None:
        """Send each bot's updates to its webhook for ever, one after the other; what was not taken is sent again."""
        number = 0
        while True:
            self.sending.wait()
            number += 1
            for bot in list(self.bots.values()):
                if bot["webhook"]["url"]:
                    self.deliver(bot, number)
            time.sleep(self.sends_every)

    def try_verify_tokens(self) -> None:
        """Try the verify tokens at the webhooks for ever; the platforms themselves do so where a subscription is made."""
        while True:
            self.sending.wait()
            for callback, known in ((self.callback, self.verify_token), (self.app_callback, self.app_verify_token)):
                if callback and known:
                    with contextlib.suppress(OSError):  # nobody is there: that says nothing of the token
                        accepted = self.try_callback(callback, known)
                        self.counts["verified" if accepted else "unverified"] += 1
            time.sleep(self.sends_every)

    def deliver(self, bot: dict[str, Any], number: int) -> None:
        while self.sending.is_set():
            headers = {"X-Telegram-Bot-Api-Secret-Token": bot["secret"], "Content-Type": "application/json"}
            request = urllib.request.Request(bot["webhook"]["url"], json.dumps({"update_id": number}).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=5):
                    self.counts["accepted"] += 1
                    return
            except urllib.error.HTTPError as error:
                self.counts["rejected" if error.code in (401, 403) else "failed"] += 1
            except OSError:
                self.counts["failed"] += 1
            time.sleep(0.1)


def handler(platforms: Platforms) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, data: dict[str, Any] | None) -> None:
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            platform, _slash, path = urllib.parse.unquote(url.path).lstrip("/").partition("/")
            if platform == "control":
                platforms.counts["control"] += 1
                self.reply(200, platforms.control(data or {}))
            elif platforms.fault == "lost reply" and path.endswith("/setWebhook"):
                platforms.telegram(path, data or {}, self.hung_up)
                self.reply(503, b"<html>upstream unavailable</html>")
            elif platforms.fault not in ("", "lost reply") and (data is not None or platforms.fault != ECHO_POSTED):
                self.misbehave(platforms.fault, platform, data)
            elif platform == "telegram":
                self.reply_to_call(*platforms.telegram(path, data or {}, self.hung_up))
            elif platform == "instagram":
                self.reply_to_call(*platforms.instagram_api(path, query, token))
            else:
                self.reply_to_call(*platforms.graph(path, query, data, token))

        def reply_to_call(self, status: int, body: dict[str, Any]) -> None:
            """Reply, and count the connectors' calls: those that are not the collection's."""
            if self.headers.get("User-Agent") != "chat4all.secrets":
                platforms.counts["calls" if status == 200 else "refused calls"] += 1
            self.reply(status, body)

        def hung_up(self) -> bool:
            """Tell whether the client has gone: it has nothing more to say while it waits."""
            return bool(select.select([self.connection], [], [], 0)[0])

        def misbehave(self, fault: str, platform: str, data: dict[str, Any] | None) -> None:
            if fault == "rate limit" and platform == "telegram":
                again = {"retry_after": 35}
                self.reply(*platforms.telegram_error(429, "Too Many Requests: retry after 35", parameters=again))
            elif fault == "rate limit":
                self.reply(
                    *platforms.graph_error(400, 4, "Application request limit reached"), headers={"Retry-After": "35"}
                )
            elif fault in ("echo", ECHO_POSTED) and platform == "telegram":
                self.reply(*platforms.telegram_error(400, f"Bad Request: {urllib.parse.unquote(self.path)} {data}"))
            elif fault in ("echo", ECHO_POSTED):
                said = f"No permission: {self.headers.get('Authorization')} {data}"
                self.reply(*platforms.graph_error(403, 200, said))
            elif fault == "down":
                self.reply(503, b"<html>upstream unavailable</html>")
            elif fault == "refused by a proxy":
                self.reply(401, b"<html>who are you?</html>")
            elif fault == "another status":
                self.reply(200, {"ok": False, "error_code": 401, "description": "Unauthorized"})
            elif fault == "malformed":
                self.reply(200, b'{"ok": true, "result": {"id": ')
            elif fault == "a list":
                self.reply(200, b"[]")
            elif fault == "empty":
                self.reply(200, {"ok": True, "result": {}, "id": "x", "user_id": ["x"]})
            elif fault == "huge":
                self.reply(200, b'{"ok": true, "result": "' + b"x" * 2_000_000 + b'"}')
            elif fault == "moved":
                self.reply(302, {}, headers={"Location": f"https://{self.headers['Host']}/control"})
            elif fault == "cut off":
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n{")
            elif fault == "drip":
                self.drip()
            else:
                ends = time.monotonic() + 60
                while time.monotonic() < ends and not self.hung_up():
                    time.sleep(0.1)

        def drip(self) -> None:
            with contextlib.suppress(OSError):
                for letter in b"HTTP/1.0 200 OK" + b" " * 60:
                    self.wfile.write(bytes([letter]))
                    self.wfile.flush()
                    time.sleep(0.05)

        def reply(self, status: int, body: dict[str, Any] | bytes, headers: dict[str, str] | None = None) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """Requests are not logged: a token stands in their path."""

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], platforms: Platforms, chain: str, key: str) -> None:
        super().__init__(address, handler(platforms))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        # The handshake is the thread's that answers: who does not finish it must not stop the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error of ours."""


def main() -> None:
    port, chain, key = sys.argv[1:]
    platforms = Platforms()
    for work in (platforms.send, platforms.try_verify_tokens):
        threading.Thread(target=work, daemon=True).start()
    Server(("", int(port)), platforms, chain, key).serve_forever()


if __name__ == "__main__":
    main()
