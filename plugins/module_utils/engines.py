# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the catalog takes for granted of each engine. A new engine is its two modules and an entry here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

# Before the name of a variable: the one that keeps what the server was given at its first start.
INIT_PREFIX = "INIT_"


@dataclass(frozen=True)
class Engine:
    """The defaults of one engine."""

    name: str
    # The prefix of the engine's two modules: <modules>_credential and <modules>_credential_info.
    modules: str
    # Matched against the last part of an image's name, and against the name of a catalog entry or service.
    names: str
    # The variables of .env, by what they hold; the server reads them at its first start only.
    variables: dict[str, str]
    # The first one is the default.
    strategies: tuple[str, ...]
    # Where the server's own environment says who its first user is.
    server_user: str = ""
    default_user: str = ""
    port: int = 0
    generate: dict[str, object] = field(default_factory=lambda: {"kind": "password", "length": 32})
    # Days.
    interval: int = 90
    priority: str = "high"
    # Which playbook rotates all of them: rotate-KIND.yml, where there is one.
    kind: str = "db"
    # No server of the project accepts the credential: it is published, rolled out, and that is all that is seen of it.
    serverless: bool = False


ENGINES = {
    "postgresql": Engine(
        name="postgresql",
        modules="postgresql",
        names=r"postgres(ql)?|postgis|timescaledb(-ha)?|pgvector|citus|pg",
        variables={"user": "POSTGRES_USER", "password": "POSTGRES_PASSWORD"},
        server_user="POSTGRES_USER",
        default_user="postgres",
        port=5432,
        strategies=("pair", "single_user"),
    ),
    # A person brings the value, and ends the old one where it was issued.
    "manual": Engine(
        name="manual",
        modules="",
        names=r"(?!)",
        variables={},
        strategies=("manual",),
        interval=180,
        kind="manual",
        serverless=True,
    ),
    # The services themselves decide what a token is worth: see jwt.py.
    "jwt": Engine(
        name="jwt",
        modules="",
        names=r"jwt",
        variables={"key": "JWT_SIGNING_KEY", "secondary": "JWT_SIGNING_KEY_SECONDARY"},
        strategies=("overlap",),
        interval=365,
        priority="critical",
        kind="jwt",
        serverless=True,
    ),
}


def _api_tokens(platform: str, variable: str, interval: int) -> Engine:
    """Return the engine of a platform's API tokens: what else is known of the platform is in ``platforms.tokens``."""
    return Engine(
        name=platform,
        modules="api_token",
        names=platform,
        variables={"secret": variable},
        strategies=("manual",),
        interval=interval,
        kind="token",
        serverless=True,
    )


ENGINES |= {
    "whatsapp": _api_tokens("whatsapp", "WHATSAPP_API_TOKEN", interval=180),
    "telegram": _api_tokens("telegram", "TELEGRAM_BOT_TOKEN", interval=180),
    # A long-lived token is valid for 60 days.
    "instagram": _api_tokens("instagram", "INSTAGRAM_ACCESS_TOKEN", interval=45),
    # What a platform sends to a connector, which accepts the one before as well; its variables depend on the platform.
    "webhook": Engine(
        name="webhook",
        modules="webhook",
        names=r"(whatsapp|telegram|instagram)[-_]webhook",
        variables={},
        strategies=("overlap",),
        generate={"kind": "uuid4"},
        interval=180,
        kind="webhook",
        serverless=True,
    ),
}

# What the facts of a credential say of its server where no server accepts it.
NO_SERVER: dict[str, Any] = {
    "service": "",
    "image": "",
    "port": 0,
    "role": "",
    "declared_role": "",
    "first_user": "",
    "address": None,
    "admin": "",
    "serves": False,
    "database": "",
}

# What a strategy means for those who depend on the credential.
TYPES = {"pair": "pair", "single_user": "gap", "manual": "person", "overlap": "overlap"}


def engine_named(name: str, where: str) -> Engine:
    """Return the engine of that name; ``where`` is the place in the catalog, for the error."""
    if name in ENGINES:
        return ENGINES[name]
    raise SecretsError(f"{where}: unknown engine {name!r}; use {', '.join(sorted(ENGINES))}")


def base_name(image: str) -> str:
    """Return the last part of an image's name (``postgres`` of ``registry/library/postgres:16-alpine``)."""
    return re.split(r"[:@]", image.rsplit("/", 1)[-1], maxsplit=1)[0].lower()


def engine_of(text: str) -> Engine | None:
    """Return the engine that an image (``postgres:16-alpine``), a service or an entry is named after."""
    for engine in ENGINES.values():
        if re.fullmatch(engine.names, base_name(text)):
            return engine
    return None


def serverless_engine(name: str, entry: Any) -> Engine | None:
    """Return the engine of a catalog entry that needs no server, by its ``engine`` or its name; ``None`` for others."""
    given = entry.get("engine") if isinstance(entry, Mapping) else None
    engine = ENGINES.get(given) if given else engine_of(name)
    return engine if engine and engine.serverless else None


def platform_of(variable: str) -> str:
    """Return the engine whose API token a variable of that name holds; empty where it is none's."""
    return next(
        (one.name for one in ENGINES.values() if one.kind == "token" and variable in one.variables.values()), ""
    )


def kind_of(name: str, entry: Any) -> str:
    """Return the kind of a catalog entry: which playbook rotates all of its kind."""
    engine = serverless_engine(name, entry)
    return engine.kind if engine else "db"
