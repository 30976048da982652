# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reference consumer as a connector: it calls its platform at its start, and takes what the platform sends to /webhook, or polls for it.

A webhook's secret is accepted where it is that of the environment's variable or of the one with ``_PREVIOUS``. Where
``CALLS_EVERY`` says how many seconds are between two calls, it goes on calling the platform.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler

sys.path.insert(0, "/app")

from consumer import DRAIN_SECONDS, PORT, Server, log

VARIABLES = {
    "Telegram": ("TELEGRAM_BOT_TOKEN", "TELEGRAM_WEBHOOK_SECRET"),
    "WhatsApp": ("WHATSAPP_API_TOKEN", "WHATSAPP_WEBHOOK_VERIFY_TOKEN"),
    "Instagram": ("INSTAGRAM_ACCESS_TOKEN", "INSTAGRAM_VERIFY_TOKEN"),
}
PLATFORM = os.environ["PLATFORM"]
TOKEN = os.environ[VARIABLES[PLATFORM][0]]
SECRET = VARIABLES[PLATFORM][1]
ACCEPTED = {value for value in (os.environ.get(SECRET), os.environ.get(f"{SECRET}_PREVIOUS")) if value}
BOT = f"https://platform:8443/telegram/bot{TOKEN}"
URLS = {
    "Telegram": f"{BOT}/getMe",
    "WhatsApp": f"https://platform:8443/graph/{os.environ.get('WHATSAPP_PHONE_NUMBER_ID')}",
    "Instagram": "https://platform:8443/instagram/me",
}
CONTEXT = ssl.create_default_context(cafile="/platforms/ca.pem")
POLL_SECONDS = 2
CALLS_EVERY = float(os.environ.get("CALLS_EVERY", "0"))
DRAINING = threading.Event()


def call() -> None:
    request = urllib.request.Request(URLS[PLATFORM], headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=5, context=CONTEXT) as answer:
        answer.read()


def connect() -> None:
    """Call the platform as a connector does at its start; who is refused does not start."""
    for _attempt in range(20):
        try:
            call()
            log("INFO", "Connector", f"Connected to {PLATFORM} API")
            return
        except urllib.error.HTTPError as error:
            log("ERROR", "Connector", f"{PLATFORM} API refused the token: {error.code}")
            sys.exit(1)
        except OSError as error:
            log("WARN", "Connector", f"{PLATFORM} API: {error}")
            time.sleep(1)
    sys.exit(1)


def go_on_calling() -> None:
    """Call the platform, which counts what it says."""
    while not DRAINING.wait(CALLS_EVERY):
        with contextlib.suppress(OSError):
            call()


def poll() -> None:
    """Ask for updates for ever, as a bot without a webhook does."""
    order = json.dumps({"timeout": POLL_SECONDS}).encode()
    request = urllib.request.Request(f"{BOT}/getUpdates", order, {"Content-Type": "application/json"})
    while not DRAINING.is_set():
        try:
            urllib.request.urlopen(request, timeout=5 + POLL_SECONDS, context=CONTEXT).close()
        except OSError as error:
            log("WARN", "Connector", f"Telegram API: {error}")
            time.sleep(0.5)


def polls() -> bool:
    with urllib.request.urlopen(f"{BOT}/getWebhookInfo", timeout=5, context=CONTEXT) as answer:
        return not json.loads(answer.read())["result"]["url"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/health":
            self.reply(503 if DRAINING.is_set() else 200, b"{}")
        elif query.get("hub.mode") == "subscribe" and query.get("hub.verify_token") in ACCEPTED:
            self.reply(200, query["hub.challenge"].encode())
        else:
            self.reply(403, b"")

    def do_POST(self) -> None:
        json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(200 if self.headers.get("X-Telegram-Bot-Api-Secret-Token") in ACCEPTED else 403, b"{}")

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if DRAINING.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Requests are not logged."""


def main() -> None:
    connect()
    server = Server(("", PORT), Handler)
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if PLATFORM == "Telegram" and polls():
        threading.Thread(target=poll, daemon=True).start()
    if CALLS_EVERY:
        threading.Thread(target=go_on_calling, daemon=True).start()
    signal.sigwait(stop)
    DRAINING.set()
    time.sleep(DRAIN_SECONDS)
    server.shutdown()


if __name__ == "__main__":
    main()
