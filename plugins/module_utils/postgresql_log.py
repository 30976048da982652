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
RECEIVED = re.compile(r"LOG:  connection received: host=(\S+)")
LOOPBACK = ("[local]", "127.0.0.1", "::1", "localhost")

# What stands for a log_line_prefix escape in a line; anything else is "some text".
FIELDS = {"h": r"(?P<host>\S*?)", "r": r"(?P<host>\S*?)(?:\(\d+\))?", "p": r"(?P<process>\d+)"}


def prefix_pattern(prefix: str) -> re.Pattern[str]:
    """Return a pattern for lines that begin with this ``log_line_prefix``."""
    parts, seen = [], set()
    for literal, escape in re.findall(r"([^%]+)|%-?\d*(.)", prefix):
        if literal:
            parts.append(re.escape(literal))
        elif escape == "%":
            parts.append("%")
        elif escape != "q":
            field = FIELDS.get(escape, ".*?")
            name = "process" if escape == "p" else "host"
            parts.append(field if field == ".*?" or name not in seen else ".*?")
            seen.add(name if field != ".*?" else escape)
    return re.compile("".join(parts))


def count_refused(
    text: str, prefix: str, own_addresses: Collection[str], own_refusals: int, announced: bool
) -> tuple[int, int]:
    """Return the refused logins in ``text``, and how many were our own negative probes.

    A probe is known by its address: from the prefix, or where connections are announced (``log_connections``) by its process.
    Where the log has neither, ``own_refusals`` of the password refusals are taken for ours. Logins over the server's own
    socket or loopback are no client's.
    """
    pattern = prefix_pattern(prefix)
    hosts: dict[str, str] = {}
    refused, own, unknown = 0, 0, 0
    for line in text.splitlines():
        start = pattern.match(line)
        fields = start.groupdict() if start else {}
        process, host = fields.get("process") or "", fields.get("host") or ""
        received = RECEIVED.search(line)
        if received and process:
            hosts[process] = received[1]
        if received or not REFUSED.search(line):
            continue
        host = host or (hosts.get(process, "") if announced else "")
        if host in own_addresses:
            own += 1
        elif host not in LOOPBACK:
            refused += 1
            unknown += not host and "password authentication failed" in line
    ours = min(own_refusals, unknown)
    return refused - ours, own + ours
