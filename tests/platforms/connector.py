# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reference consumer as a connector: it calls its platform at its start, and takes what the platform sends to /webhook.

A webhook's secret is accepted where it is that of the environment's variable or of the one with ``_PREVIOUS``.
"""

from __future__ import annotations

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

PLATFORM = os.environ["PLATFORM"]  # Telegram, WhatsApp
TOKEN = os.environ["TELEGRAM_BOT_TOKEN" if PLATFORM == "Telegram" else "WHATSAPP_API_TOKEN"]
SECRET = "TELEGRAM_WEBHOOK_SECRET" if PLATFORM == "Telegram" else "WHATSAPP_WEBHOOK_VERIFY_TOKEN"
ACCEPTED = {value for value in (os.environ.get(SECRET), os.environ.get(f"{SECRET}_PREVIOUS")) if value}
URLS = {
    "Telegram": f"https://platform:8443/telegram/bot{TOKEN}/getMe",
    "WhatsApp": f"https://platform:8443/graph/{os.environ.get('WHATSAPP_PHONE_NUMBER_ID')}",
}
DRAINING = threading.Event()


def connect() -> None:
    """Call the platform as a connector does at its start; who is refused does not start."""
    request = urllib.request.Request(URLS[PLATFORM], headers={"Authorization": f"Bearer {TOKEN}"})
    context = ssl.create_default_context(cafile="/platforms/ca.pem")
    for _attempt in range(20):
        try:
            with urllib.request.urlopen(request, timeout=5, context=context):
                log("INFO", "Connector", f"Connected to {PLATFORM} API")
                return
        except urllib.error.HTTPError as error:
            log("ERROR", "Connector", f"{PLATFORM} API refused the token: {error.code}")
            sys.exit(1)
        except OSError as error:
            log("WARN", "Connector", f"{PLATFORM} API: {error}")
            time.sleep(1)
    sys.exit(1)


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
    signal.sigwait(stop)
    DRAINING.set()
    time.sleep(DRAIN_SECONDS)
    server.shutdown()


if __name__ == "__main__":
    main()
