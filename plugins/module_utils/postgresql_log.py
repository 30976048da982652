# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Count the refused logins in a PostgreSQL server's own log."""

from __future__ import annotations

import re
from collections.abc import Collection

# What a client is told whose login is refused, whatever for.
REFUSED = re.compile(
    r"FATAL:  (?:"
    r'.*authentication failed for user "|role ".*" (?:is not permitted to log in|does not exist)'
    r"|no pg_hba\.conf entry|pg_hba\.conf rejects connection"
    r"|too many connections for|sorry, too many clients already|remaining connection slots are reserved"
    r"|the database system is |canceling authentication due to timeout"
    r'|permission denied for database|database ".*" does not exist)'
)
# What pg_hba.conf refuses is logged with the client's address, whatever the prefix is.
ADDRESSED = re.compile(r'FATAL:  (?:no pg_hba\.conf entry|pg_hba\.conf rejects connection) for host "([^"]+)"')
RECEIVED = re.compile(r"LOG:  connection received: host=(\S+)")
LOOPBACK = ("[local]", "127.0.0.1", "::1", "localhost")

# What stands for an escape of log_line_prefix in a line; any other one is "some text".
FIELDS = {
    "h": ("host", r"(?P<host>\S*?)"),
    "r": ("host", r"(?P<host>\S*?)(?:\(\d+\))?"),
    "p": ("process", r"(?P<process>\d+)"),
}


def prefix_pattern(prefix: str) -> re.Pattern[str]:
    """Return a pattern for lines that begin with this ``log_line_prefix``."""
    parts: list[str] = []
    seen: set[str] = set()
    for literal, escape in re.findall(r"([^%]+)|%-?\d*(.)", prefix):
        name, field = FIELDS.get(escape, ("", ".*?"))
        if literal or escape == "%":
            parts.append(re.escape(literal or "%"))
        elif name in seen:
            parts.append(".*?")
        elif escape != "q":
            parts.append(field)
            seen.update({name} - {""})
    return re.compile("".join(parts) + r"(?=[A-Z]+\d?:  )")


def count_refused(
    text: str, prefix: str, users: Collection[str], own_addresses: Collection[str], own_refusals: int
) -> tuple[int, int]:
    """Return the refused logins in ``text``, and how many were our own negative probes.

    A refusal that names a user counts when it is one of ``users``. A probe is known by its address, which stands in the
    prefix, in what ``pg_hba.conf`` refuses or, with ``log_connections``, in an earlier line of the same process. Where
    the log has none of these, ``own_refusals`` of the refused passwords are taken for ours. Logins over the server's
    own socket or loopback are no client's.
    """
    pattern = prefix_pattern(prefix)
    named = [f'{word} "{user}"' for user in users for word in ("user", "role")]
    hosts: dict[str, str] = {}
    refused, own, unidentified = 0, 0, 0
    for line in text.splitlines():
        start = pattern.match(line)
        fields = start.groupdict() if start else {}
        process = fields.get("process") or ""
        received = RECEIVED.search(line)
        if received:
            hosts[process] = received[1]
            continue
        refusal = REFUSED.search(line)
        if not refusal:
            continue
        message = line[refusal.start() :]
        if re.search(r'(user|role) "', message) and not any(name in message for name in named):
            continue
        addressed = ADDRESSED.match(message)
        host = addressed[1] if addressed else fields.get("host") or (hosts.get(process) if process else "")
        if host in own_addresses:
            own += 1
        elif host not in LOOPBACK:
            refused += 1
            unidentified += not host and "password authentication failed" in message
    ours = min(own_refusals, unidentified)
    return refused - ours, own + ours
