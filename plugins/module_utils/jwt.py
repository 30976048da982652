# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JWT signing keys in the catalog: their variables, who signs and who verifies, and the policy of their rotation.

There is no server: what a token is worth is decided by the services themselves, by the variables that they were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import ALGORITHMS
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import ENGINES, NO_SERVER, serverless_engine
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

ENGINE = "jwt"
SYMMETRIC = ("HS256",)

# By what they hold. ``kid`` is published where a service uses it.
VARIABLES = ENGINES[ENGINE].variables
KEY_PAIR_VARIABLES = {"key": "JWT_SIGNING_KEY", "jwks": "JWT_JWKS", "kid": "JWT_KEY_ID"}

# What follows from the keys.
DERIVED = ("jwks", "kid")

# The keys of a catalog entry that only this engine has, and those that it shares with others.
OWN_KEYS = ("algorithm", "cache", "overlap", "signers", "skew", "token_life")
ALL_KEYS = ("engine", "interval", "priority", "variables", *OWN_KEYS)

# Missed runs, and the day on which the next one falls, must not have the phases of two rotations meet.
SPARE = timedelta(days=3)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Policy:
    """How long a key is used, and how long others have to be able to verify what it has signed."""

    # From a key's creation until it signs no more.
    interval: timedelta = timedelta(days=365)
    # From the moment from which everybody verifies with a key until somebody signs with it.
    overlap: timedelta = timedelta(days=7)
    # The longest life of a token.
    token_life: timedelta = timedelta(days=7)
    # By how much the services' clocks may differ.
    skew: timedelta = timedelta(minutes=5)
    # How long a verifier may use a JWKS document that it has fetched before.
    cache: timedelta = timedelta(0)

    @property
    def wait(self) -> timedelta:
        """How long a new key waits for its promotion where a run comes once a day."""
        return max(self.overlap, self.cache + DAY)

    @property
    def outlives(self) -> timedelta:
        """How long after its last signature a key has to be accepted."""
        return self.token_life + self.skew


def is_jwt(name: str, entry: Any) -> bool:
    """Tell whether an entry of the catalog is a signing key."""
    engine = serverless_engine(name, entry)
    return engine is not None and engine.name == ENGINE


def policy_of(name: str, entry: Mapping[str, Any]) -> Policy:
    """Return the policy of an entry of a checked catalog."""
    given = {
        key: timedelta(seconds=entry[key])
        for key in ("interval", "overlap", "token_life", "skew", "cache")
        if key in entry
    }
    policy = Policy(**given)
    if policy.cache > policy.overlap:
        raise SecretsError(f"secrets_catalog.{name}.overlap: must not be less than cache; raise it")
    if policy.interval < 2 * policy.wait + policy.outlives + SPARE:
        raise SecretsError(
            f"secrets_catalog.{name}.interval: too short: needs twice the overlap (at least a day, and one more than "
            "cache), token_life, skew and 3 days"
        )
    return policy


def resolve(name: str, entry: dict[str, Any], project: Project, spread: bool = False) -> dict[str, Any]:
    """Return what is known of a signing key, in the form of ``catalog.resolve``; ``entry`` is one of a checked catalog.

    ``spread``: this is one of several hosts, which need not have a consumer, or not one of every variable.
    """
    where = f"secrets_catalog.{name}"
    for key in entry:
        if key not in ALL_KEYS:
            raise SecretsError(f"{where}.{key}: not with engine jwt; known: {', '.join(sorted(ALL_KEYS))}")
    algorithm = entry.get("algorithm", ALGORITHMS[0])
    symmetric = algorithm in SYMMETRIC
    policy = policy_of(name, entry)
    known = VARIABLES if symmetric else KEY_PAIR_VARIABLES
    variables = {**known, **entry.get("variables", {})}
    foreign = sorted(set(variables) - set(known))
    if foreign:
        raise SecretsError(f"{where}.variables.{foreign[0]}: not with {algorithm}; known: {', '.join(sorted(known))}")
    used_by = project.consumers(variables.values())
    for part, variable in variables.items():
        # Without a second key the rotation is refused, and nothing else.
        if part not in ("kid", "secondary") and not used_by[variable] and not spread:
            raise SecretsError(f"{where}.variables.{part}: no service of {project.directory} uses {variable}")
    if not used_by.get(variables.get("kid", ""), True):
        del variables["kid"]
    users = {part: used_by[variable] for part, variable in variables.items()}
    consumers = sorted(set().union(*users.values()))
    signers = _signers(where, entry, users["key"], symmetric, spread)
    # Who does not see the second key would reject what the others sign with it.
    blind = users["key"] - users["secondary"] - set(entry.get("signers", ())) if symmetric else set()
    refusals = [
        {
            "kind": "secondary",
            "text": f"{service} uses {variables['key']} and not {variables['secondary']}, so it would reject tokens of the "
            f"new key; give it {variables['secondary']}: ${{{variables['secondary']}:-}}, or, if it signs and never "
            f"verifies, write {name}: {{signers: [{service}]}}",
        }
        for service in sorted(blind)
    ]
    engine = ENGINES[ENGINE]
    return {
        "name": name,
        "engine": ENGINE,
        "modules": engine.modules,
        "type": "overlap",
        "strategy": "overlap",
        **NO_SERVER,
        "unused": [],
        "previous_variable": "",
        "algorithm": algorithm,
        "variables": variables,
        "used_by": {part: sorted(services) for part, services in users.items()},
        "server_variables": [],
        "consumers": consumers,
        "signers": signers,
        "verifiers": sorted(users["secondary"] if symmetric else users["jwks"]),
        "literal_user": [],
        "objections": refusals,
        "generate": {},
        "interval": policy.interval.total_seconds(),
        "grace": 0,
        "priority": entry.get("priority", engine.priority),
    }


def _signers(where: str, entry: Mapping[str, Any], holders: set[str], symmetric: bool, spread: bool) -> list[str]:
    """Return who signs: whoever has the private key; with a key that all share, all of them or those that are named."""
    if "signers" not in entry:
        return sorted(holders)
    if not symmetric:
        raise SecretsError(f"{where}.signers: with a key pair they are those that use the private key; leave it out")
    for service in entry["signers"]:
        if service not in holders and not spread:
            raise SecretsError(
                f"{where}.signers: {service} does not use the key; there are {', '.join(sorted(holders))}"
            )
    return sorted(holders & set(entry["signers"]))
