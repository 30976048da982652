# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a credential is: the host of its server, and the hosts on which it is published and rolled out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

# What one host has of a credential; see ``placed``.
Place = dict[str, Any]
PLACE_FACTS = ("consumers", "env", "unused", "in_use", "signers", "used_by", "variables")


def homes(
    catalog: Mapping[str, Any], surveys: Mapping[str, dict[str, Any]], wanted: Collection[str] = ()
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return of each credential the host of its server, and what that host sees of it.

    ``surveys``: what the module catalog_info has found on each host. A service that is named so comes before one that only
    has an image that fits. Raises where there is none, or more than one; of what is not ``wanted``, that is left out.
    """
    names = {name for seen in surveys.values() for name in seen["servers"]}
    found = {}
    for name in [name for name in catalog if name in names]:
        try:
            found[name] = _home(name, (catalog[name] or {}).get("host"), surveys)
        except SecretsError:
            if not wanted or name in wanted:
                raise
    return found


def _home(name: str, declared: str | None, surveys: Mapping[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    if declared and declared not in surveys:
        raise SecretsError(
            f"secrets_catalog.{name}.host: {declared} is no host of this play; there are {', '.join(surveys)}"
        )
    rows = [
        (host, row)
        for host, seen in surveys.items()
        if declared in (None, host)
        for row in seen["servers"].get(name, [])
    ]
    rows = [one for one in rows if one[1]["named"]] or rows
    # A value that no server of ours accepts has its home, for all that is not done everywhere, on the first host.
    if rows and (not rows[0][1]["service"] or rows[0][1].get("anywhere")):
        rows = rows[:1]
    if not rows:
        raise SecretsError(
            f"secrets_catalog.{name}: no service on {declared or ' or '.join(surveys)} matches; add the server's: "
            f"{name}: {{host: HOST, service: NAME, engine: ENGINE}}"
        )
    if len(rows) > 1:
        what = " and ".join(f"{row['service']} on {host}" for host, row in rows)
        first, row = rows[0]
        raise SecretsError(
            f"secrets_catalog.{name}: {what} match; say which one it is: "
            f"{name}: {{host: {first}, service: {row['service']}}}"
        )
    return rows[0]


def placed(infos: Sequence[tuple[str, dict[str, Any]]], home: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what the module catalog_info says on each host as one, in the form of a single host's.

    A credential's facts are those of its server's ``home``; ``places`` has what each host has of it: ``host``,
    ``env_file``, ``consumers``, ``env``. ``hosts`` has what is not of one credential. Of
    several hosts, consumers are named ``host/service``, and what is said of a service says where it is.
    """
    if len(infos) == 1:
        [(host, info)] = infos
        for facts in info["credentials"].values():
            facts["host"] = host
            facts["places"] = [_place(host, info, facts)]
        if "sealed" in info:
            info["sealed"] = {host: info["sealed"]}
        return {**info, "hosts": {host: {"addresses": info["addresses"], "own_addresses": []}}}
    by_host, home = dict(infos), home or {}
    credentials = {}
    for name, where in home.items():
        facts = by_host[where]["credentials"][name]
        mine = [
            _place(host, info, info["credentials"][name])
            for host, info in infos
            if (host == where and facts["service"]) or info["credentials"][name]["consumers"]
        ]
        if not any(place["consumers"] for place in mine) and not facts["serves"]:
            variable = facts["variables"].get("password") or next(iter(facts["variables"].values()))
            raise SecretsError(
                f"secrets_catalog.{name}.variables.password: no service on {' or '.join(by_host)} uses {variable}"
            )
        credentials[name] = {
            **facts,
            "host": where,
            "places": mine,
            "consumers": [f"{place['host']}/{one}" for place in mine for one in place["consumers"]],
            "literal_user": [
                f"{host}/{one}" for host, info in infos for one in info["credentials"][name]["literal_user"]
            ],
            "left_behind": [
                f"{host}: {text}" for host, info in infos for text in info["credentials"][name].get("left_behind", [])
            ],
            "plan": _plan(infos, name),
        }
    merged = {
        "credentials": credentials,
        "project": infos[0][1]["project"],
        "hosts": {
            host: {"addresses": info["addresses"], "own_addresses": info["own_addresses"]} for host, info in infos
        },
        "addresses": {},
        "pending_changes": [
            [f"{host}/{one}", change] for host, info in infos for one, change in info["pending_changes"]
        ],
        "image_drift": [f"{host}: {text}" for host, info in infos for text in info["image_drift"]],
    }
    if all("sealed" in info for info in by_host.values()):
        merged["sealed"] = {host: info["sealed"] for host, info in infos}
    return merged


def _plan(infos: Sequence[tuple[str, dict[str, Any]]], name: str) -> dict[str, Any]:
    plans = [(host, info["credentials"][name]["plan"]) for host, info in infos]
    return {
        "waves": [
            [{**row, "service": f"{host}/{row['service']}"} for row in wave]
            for host, plan in plans
            for wave in plan["waves"]
        ],
        "refusals": [{**row, "text": f"{host}: {row['text']}"} for host, plan in plans for row in plan["refusals"]],
    }


def _place(host: str, info: dict[str, Any], facts: dict[str, Any]) -> Place:
    """Return what one host has of a credential."""
    return {
        "host": host,
        "env_file": info["project"]["env_file"],
        **{key: facts[key] for key in PLACE_FACTS if key in facts},
    }


def needless(place: Place) -> set[str]:
    """Return the variables that no service of a host uses, and that its ``.env`` does not have."""
    return set(place.get("unused", ())) - set(place.get("env", {}).get("fingerprints", ()))


def places(facts: dict[str, Any]) -> list[Place]:
    """Return where a credential is published and rolled out, in the inventory's order."""
    found: list[Place] = facts["places"]
    return found


def consumers_of(facts: dict[str, Any]) -> list[str]:
    """Return all that may be skipped: services, and those outside Compose that have a file."""
    return [*facts["consumers"], *(one["name"] for one in facts.get("files", []))]


def clients(
    facts: dict[str, Any],
    hosts: Mapping[str, dict[str, Any]],
    rolled: Mapping[str, dict[str, str]],
    skipped: Collection[str] = (),
) -> dict[str, str]:
    """Return who is behind an address that the server sees.

    ``hosts``: the addresses of the hosts and of their containers, see ``placed``; ``rolled``: those of the containers after
    the roll-out. The server sees the containers of its own host; of another host's it sees the host alone, since NAT hides
    them, and whoever was ``skipped`` there goes on with the old value. An address that several other hosts have, as those of
    Docker's own networks, tells nothing.
    """
    home = facts["host"]
    if len(hosts) == 1:
        return dict(rolled.get(home) or hosts[home]["addresses"])
    of = {place["host"]: place["consumers"] for place in facts["places"]}
    own = {host: set(seen["own_addresses"]) for host, seen in hosts.items()}
    found = {}
    for host in hosts:
        others = set().union(*(own[other] for other in hosts if other != host))
        consumers = of.get(host, [])
        kept = [f"{host}/{one}" for one in consumers if f"{host}/{one}" in skipped]
        if host == home or not consumers:
            name = host
        elif kept or len(consumers) == 1:
            name = (kept or [f"{host}/{consumers[0]}"])[0]
        else:
            name = f"{host} (one of {', '.join(consumers)})"
        found.update(dict.fromkeys(own[host] if host == home else own[host] - others, name))
    containers = rolled.get(home) or hosts[home]["addresses"]
    return {**found, **{address: f"{home}/{service}" for address, service in containers.items()}}
