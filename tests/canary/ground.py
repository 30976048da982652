# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The deployment whose secrets are looked for: the demo's services with a database and signing keys, and three connectors."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("stack", "platforms")] + [str(ROOT / "build" / "collections")]

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv  # noqa: E402
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys  # noqa: E402
from connectors import CONSUMERS as CONNECTORS  # noqa: E402
from connectors import Connectors  # noqa: E402
from stack import CONSUMERS as SERVICES  # noqa: E402
from stack import compose_text  # noqa: E402

# Both sign; of the key pair the one signs and the other verifies.
SIGNER, VERIFIER = "user-service", "message-service"
SHARED_KEY = {"JWT_SIGNING_KEY": "${JWT_SIGNING_KEY}", "JWT_SIGNING_KEY_SECONDARY": "${JWT_SIGNING_KEY_SECONDARY:-}"}
DOCUMENT = {"JWT_JWKS": "${JWT_JWKS}"}
PRIVATE_KEY = {"JWT_PRIVATE_KEY": "${JWT_PRIVATE_KEY}", "JWT_KEY_ID": "${JWT_KEY_ID}"}
# Seconds, so that each phase may come as soon as it is asked for.
POLICY = {"token_life": "1s", "skew": "1s", "overlap": "1s"}
PAIR = {"key": "JWT_PRIVATE_KEY", "jwks": "JWT_JWKS", "kid": "JWT_KEY_ID"}


class ScenarioError(Exception):
    """A run did not end as it must for the test to mean anything."""


class Ground(Connectors):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.consumers = (*SERVICES, *CONNECTORS)

    def compose_model(self) -> dict:
        model = yaml.safe_load(compose_text(len(SERVICES)))
        services = model["services"]
        services |= super().compose_model()["services"]
        services[SIGNER]["environment"] |= SHARED_KEY | DOCUMENT | PRIVATE_KEY
        services[VERIFIER]["environment"] |= SHARED_KEY | DOCUMENT
        return model

    @property
    def server(self) -> str:
        """The database server's container."""
        return self.containers("postgres")[0]

    def create(self) -> None:
        super().create()
        pair = {**jwt_keys.make("ES256"), "created": ""}
        given = {
            "JWT_SIGNING_KEY": secrets.token_hex(32),
            "JWT_PRIVATE_KEY": pair["password"],
            "JWT_KEY_ID": pair["user"],
            "JWT_JWKS": jwt_keys.jwks(pair),
        }
        with (self.directory / ".env").open("a") as env:
            env.write("".join(f"{name}={dotenv.quote(value)}\n" for name, value in given.items()))

    def catalog(self) -> dict:
        pair = {"engine": "jwt", "algorithm": "ES256", "variables": PAIR, **POLICY}
        return {"postgres": {}, **super().catalog(), "jwt": POLICY, "jwt-pair": pair}
