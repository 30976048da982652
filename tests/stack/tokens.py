# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack of three services that sign tokens and verify one another's, and what is counted of them."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys
from stack import CONSUMERS, Stack

SERVICE = {
    "image": "chat4all-test/jwt:1",
    "init": True,
    "restart": "unless-stopped",
    "volumes": ["./tokens:/tokens", "./faults:/faults:ro"],
    "healthcheck": {
        "test": ["CMD", "busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"],
        "interval": "1s",
        "timeout": "5s",
        "retries": 10,
    },
}
# With key pairs this one verifies alone.
VERIFIER = "message-service"
# A file that every service writes to does not keep two containers of it apart.
SERVICES = {name: {"replace": "start_first"} for name in CONSUMERS}


class TokenStack(Stack):
    """``algorithm`` HS256: every service signs and verifies with the seed's two variables. Others: with key pairs."""

    def __init__(self, name: str, algorithm: str = "HS256", token_life: int = 10) -> None:
        super().__init__(name)
        self.algorithm, self.token_life = algorithm, token_life

    def create(self) -> None:
        super().create()
        tokens = self.directory / "tokens"
        tokens.mkdir()
        tokens.chmod(0o777)
        services = {name: {**SERVICE, "environment": self._environment(name)} for name in CONSUMERS}
        (self.directory / "docker-compose.yml").write_text(yaml.safe_dump({"services": services}, sort_keys=False))
        env = {"COMPOSE_PROJECT_NAME": self.project, "JWT_SIGNING_KEY": secrets.token_hex(32)}
        if self.algorithm != "HS256":
            key = {**jwt_keys.make(self.algorithm), "created": ""}
            env |= {
                "JWT_SIGNING_KEY": key["password"],
                "JWT_KEY_ID": key["user"],
                "JWT_JWKS": jwt_keys.jwks(key),
            }
        self.write_env(env)

    def _environment(self, name: str) -> dict[str, Any]:
        common = {"SERVICE_NAME": name, "TOKEN_LIFE": self.token_life, "JWT_ALGORITHM": self.algorithm}
        if self.algorithm == "HS256":
            second = "${JWT_SIGNING_KEY_SECONDARY:-}"
            return {**common, "JWT_SIGNING_KEY": "${JWT_SIGNING_KEY}", "JWT_SIGNING_KEY_SECONDARY": second}
        signs = {"JWT_SIGNING_KEY": "${JWT_SIGNING_KEY}", "JWT_KEY_ID": "${JWT_KEY_ID}"}
        return {**common, "JWT_JWKS": "${JWT_JWKS}", **(signs if name != VERIFIER else {})}

    def env(self) -> dict[str, str]:
        return dotenv.values((self.directory / ".env").read_text())

    def write_env(self, values: dict[str, str]) -> None:
        """Write the whole ``.env``."""
        text = "".join(f"{name}={dotenv.quote(value)}\n" for name, value in values.items())
        descriptor = os.open(self.directory / ".env", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)

    def wait(self, timeout: float = 60) -> None:
        """Wait until every service has verified every signer's tokens."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if all(self.counts(signer)["verified"] > 20 for signer in self.signers):
                return
            time.sleep(0.2)
        raise AssertionError(f"{self.project}: no traffic within {timeout:g} s: {self.counts()}")

    @property
    def signers(self) -> list[str]:
        return [name for name in CONSUMERS if self.algorithm == "HS256" or name != VERIFIER]

    def counts(self, signer: str = "") -> Counter[str]:
        """Return what all containers, those that are gone too, have counted of all signers' tokens, or one's."""
        found: Counter[str] = Counter()
        for path in (self.directory / "tokens").glob("*.json"):
            for name, counts in json.loads(path.read_text()).items():
                if name == signer or (not signer and name != "probe"):
                    found.update(counts)
        return found

    def pairs(self) -> Counter[tuple[str, str]]:
        """Return how many tokens each service has verified of each signer, of whichever of its containers."""
        found: Counter[tuple[str, str]] = Counter()
        for path in (self.directory / "tokens").glob("*.json"):
            for signer, counts in json.loads(path.read_text()).items():
                found[path.name.partition(".")[0], signer] += counts.get("verified", 0)
        return Counter(
            {(name, signer): found[name, signer] for signer in self.signers for name in CONSUMERS if name != signer}
        )

    def settle(self) -> None:
        """Wait until every token that was signed until now has expired, having been verified for the last time."""
        time.sleep(self.token_life + 1)

    def judge(self, tokens: list[str], timeout: float = 30) -> Counter[str]:
        """Have every service verify tokens of our own; returns what they have counted, once and again later."""
        before = self.counts("probe")
        wanted = 2 * len(tokens) * len(CONSUMERS)
        lines = "".join(f"{time.time() + 3} {token}\n" for token in tokens)
        folder: Path = self.directory / "tokens"
        (folder / f"probe.{secrets.token_hex(4)}.tokens").write_text(lines)
        deadline = time.monotonic() + timeout
        while (found := self.counts("probe") - before).total() < wanted:
            assert time.monotonic() < deadline, f"{found} of {wanted} verdicts within {timeout:g} s"
            time.sleep(0.2)
        return found
