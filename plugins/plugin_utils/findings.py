# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module adopt_info has found on several hosts, as one deployment's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def together(seen: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return what was found on all hosts in the form of a single one's; services are named ``host/service``.

    A host that has a server's password where no server is has its consumers: they are known by the value, of which
    ``fingerprint`` is a keyed one.
    """
    found = [
        {**one, "host": host, "consumers": [f"{host}/{name}" for name in one["consumers"]]}
        for host, result in seen
        for one in result["found"]
    ]
    names = [one["name"] for one in found]
    for one in found:
        if names.count(one["name"]) > 1:
            one["twin"], one["name"] = True, f"{one['name']}-{one['host']}"
    warn = [f"{host}: {text}" for host, result in seen for text in result["warn"]]
    ask: list[dict[str, Any]] = []
    for host, result in seen:
        for one in result["ask"]:
            users = [f"{host}/{name}" for name in one["services"]]
            server = next((other for other in found if one["fingerprint"] and _same(one, other)), None)
            known = next((other for other in ask if _same(one, other) and one["variable"] == other["variable"]), None)
            if server:
                server["consumers"] += users
                if (one["place"], one["variable"]) != (server["place"], server["variable"]):
                    warn.append(
                        f"{host}: {one['variable']} holds the password of {server['name']}, which is {server['variable']} "
                        f"on {server['host']} -> a credential's variables have the same names on every host"
                    )
            elif known:
                known["services"] += users
            else:
                ask.append({**one, "services": users})
    return {"found": found, "ask": ask, "warn": warn}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["fingerprint"]) and one["fingerprint"] == other["fingerprint"]
