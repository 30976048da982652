# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack of three connectors behind the proxy, with stand-ins of their platforms, which send updates to them."""

from __future__ import annotations

import json
import secrets
import shutil
import ssl
import time
import urllib.request
from pathlib import Path

import certificates
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from stack import Stack, free_port, proxy_text
from standins import ACCOUNT, APP, NUMBER

HERE = Path(__file__).resolve().parent
CONSUMERS = ("telegram-connector", "whatsapp-connector", "instagram-connector")
BOT = "123456"


def new_token(platform: str) -> str:
    """Return a token as that platform issues one."""
    random = secrets.token_hex(18)
    return {"telegram": f"{BOT}:AA{random[:33]}", "whatsapp": f"EAAJ{random}", "instagram": f"IGAA{random}"}[platform]


class Connectors(Stack):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.consumers = CONSUMERS
        self.api_port = free_port()

    def compose_model(self) -> dict:
        consumer = {
            "image": "chat4all-test/consumer:1",
            "init": True,
            "restart": "unless-stopped",
            "volumes": ["./platforms:/platforms:ro"],
        }
        connector = {
            **consumer,
            "entrypoint": ["python3", "-u", "/platforms/connector.py"],
            "depends_on": ["platform"],
            "healthcheck": {
                "test": ["CMD", "busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/health"],
                "interval": "1s",
                "timeout": "5s",
                "retries": 10,
            },
        }

        def both(name: str) -> dict[str, str]:
            return {variable: f"${{{variable}:-}}" for variable in (name, f"{name}_PREVIOUS")}

        server = ["python3", "-u", "/platforms/standins.py", "8443", "/platforms/server.pem", "/platforms/server.key"]
        return {
            "services": {
                "platform": {**consumer, "entrypoint": server, "ports": [f"127.0.0.1:{self.api_port}:8443"]},
                "telegram-connector": {
                    **connector,
                    "environment": {
                        "PLATFORM": "Telegram",
                        "TELEGRAM_BOT_TOKEN": "${TELEGRAM_BOT_TOKEN}",
                        **both("TELEGRAM_WEBHOOK_SECRET"),
                    },
                },
                "whatsapp-connector": {
                    **connector,
                    "environment": {
                        "PLATFORM": "WhatsApp",
                        "WHATSAPP_API_TOKEN": "${WHATSAPP_API_TOKEN}",
                        "WHATSAPP_PHONE_NUMBER_ID": "${WHATSAPP_PHONE_NUMBER_ID}",
                        **both("WHATSAPP_WEBHOOK_VERIFY_TOKEN"),
                    },
                },
                "instagram-connector": {
                    **connector,
                    "environment": {
                        "PLATFORM": "Instagram",
                        "INSTAGRAM_ACCESS_TOKEN": "${INSTAGRAM_ACCESS_TOKEN}",
                        "INSTAGRAM_APP_SECRET": "${INSTAGRAM_APP_SECRET}",
                        **both("INSTAGRAM_VERIFY_TOKEN"),
                    },
                },
                "proxy": {
                    "image": "chat4all-test/haproxy:1",
                    "restart": "unless-stopped",
                    "stop_signal": "SIGTERM",
                    "ports": ["127.0.0.1:${PROXY_PORT:-8080}:8080"],
                    "volumes": ["./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro"],
                },
            }
        }

    def create(self) -> None:
        super().create()
        folder = self.directory / "platforms"
        folder.mkdir(mode=0o755)
        for name in ("standins.py", "connector.py"):
            shutil.copy(HERE / name, folder / name)
            (folder / name).chmod(0o644)
        self.ca = certificates.make(folder, "localhost", "platform")[0]
        (self.directory / "docker-compose.yml").write_text(yaml.safe_dump(self.compose_model(), sort_keys=False))
        backends = "".join(f"\nbackend {name}\n    server-template {name} 4 {name}:8080\n" for name in CONSUMERS)
        (self.directory / "haproxy.cfg").write_text(proxy_text(3) + backends)
        with (self.directory / ".env").open("a") as env:
            env.write(
                f"TELEGRAM_BOT_TOKEN={new_token('telegram')}\n"
                f"TELEGRAM_WEBHOOK_SECRET={secrets.token_hex(16)}\n"
                f"WHATSAPP_API_TOKEN={new_token('whatsapp')}\n"
                f"WHATSAPP_PHONE_NUMBER_ID={NUMBER}\n"
                f"WHATSAPP_BUSINESS_ACCOUNT_ID={ACCOUNT}\n"
                f"WHATSAPP_WEBHOOK_VERIFY_TOKEN={secrets.token_hex(16)}\n"
                f"INSTAGRAM_ACCESS_TOKEN={new_token('instagram')}\n"
                f"INSTAGRAM_APP_SECRET={secrets.token_hex(16)}\n"
                f"INSTAGRAM_VERIFY_TOKEN={secrets.token_hex(16)}\n"
            )

    def up(self, timeout: float = 120) -> None:
        """Have the platforms know the tokens before the connectors call them, and the updates' way to the connectors."""
        self.compose("up", "-d", "platform", timeout=timeout)
        env = self.env()
        self.control(
            bot=env["TELEGRAM_BOT_TOKEN"],
            webhook={"bot": BOT, "url": self.hook("telegram"), "secret": env["TELEGRAM_WEBHOOK_SECRET"]},
            whatsapp=env["WHATSAPP_API_TOKEN"],
            callback=self.hook("whatsapp"),
            verify_token=env["WHATSAPP_WEBHOOK_VERIFY_TOKEN"],
            instagram=env["INSTAGRAM_ACCESS_TOKEN"],
            app_secret=env["INSTAGRAM_APP_SECRET"],
            app_callback=self.hook("instagram"),
            app_verify_token=env["INSTAGRAM_VERIFY_TOKEN"],
            fields=["messages"],
        )
        super().up(timeout)

    @staticmethod
    def hook(platform: str) -> str:
        """Return where a platform's updates go to."""
        return f"http://proxy:8080/{platform}-connector/webhook"

    def env(self) -> dict[str, str]:
        return dotenv.values((self.directory / ".env").read_text())

    def control(self, **order: object) -> dict:
        """Do what a person does at the platforms' own pages, or a fault; returns what the platforms know and counted."""
        context = ssl.create_default_context(cafile=str(self.ca))
        url = f"https://localhost:{self.api_port}/control"
        request = urllib.request.Request(url, json.dumps(order).encode(), {"Content-Type": "application/json"})
        for attempt in range(100):
            try:
                with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                    return json.loads(answer.read())
            except OSError:
                if attempt == 99:
                    raise
                time.sleep(0.2)
        raise AssertionError("not reached")

    def poll(self) -> None:
        """Ask Telegram for updates, as the connector of a bot without a webhook does."""
        url = f"https://localhost:{self.api_port}/telegram/bot{self.env()['TELEGRAM_BOT_TOKEN']}/getUpdates"
        context = ssl.create_default_context(cafile=str(self.ca))
        request = urllib.request.Request(url, b'{"timeout": 0.1}', {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=5, context=context).close()

    def catalog(self) -> dict:
        """Return the catalog's entries: the tokens and the webhooks' secrets of all platforms, and the app's secret."""

        def at(path: str, **more: str) -> dict:
            return {"api": f"https://localhost:{self.api_port}/{path}", "ca": str(self.ca), **more}

        return {
            "telegram": at("telegram"),
            "telegram-webhook": at("telegram"),
            "whatsapp": at("graph"),
            "whatsapp-webhook": at("graph"),
            "instagram": at("instagram"),
            "instagram-webhook": at("graph", app_id=APP, token="instagram-app"),
            "instagram-app": {"engine": "manual", "variables": {"secret": "INSTAGRAM_APP_SECRET"}},
        }
