# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read ``pg_hba.conf`` as the server does: which line decides about a login."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

NETWORK_TYPES = ("host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")


@dataclass(frozen=True)
class Who:
    """A login that is looked for: its name, every role that it is a member of, itself included, and its database."""

    user: str
    roles: frozenset[str]
    database: str


@dataclass(frozen=True)
class Rule:
    """One line of ``pg_hba.conf``."""

    line: int
    type: str
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: str
    netmask: str
    method: str

    def is_for(self, who: Who) -> bool:
        """Tell whether user and database match; the address is not looked at."""
        return any(_user_matches(word, who) for word in self.users) and any(
            _database_matches(word, who) for word in self.databases
        )

    def covers(self, address: str) -> bool:
        """Tell whether the rule is for connections from ``address``; a host name may be any address."""
        if self.type not in NETWORK_TYPES or self.type == "hostgssenc":
            return False
        network = self._network()
        return network is None or ipaddress.ip_address(address) in network

    @property
    def is_certain(self) -> bool:
        """Whether a covered address is one for sure: a host name may be another's, and TLS is not known here."""
        known = self.address in ("all", "samehost", "samenet") or self._network() is not None
        return self.type == "host" and known

    @property
    def is_for_everyone(self) -> bool:
        """Whether no network login gets past this line."""
        return (self.type, self.address) == ("host", "all") and "all" in self.users and "all" in self.databases

    @property
    def is_loopback(self) -> bool:
        """Whether only the server's own machine is meant."""
        network = self._network()
        return network is not None and network.is_loopback

    def _network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
        try:
            return ipaddress.ip_network(f"{self.address}/{self.netmask}", strict=False)
        except ValueError:
            pass
        try:
            # ipaddress takes no IPv6 mask in this form.
            bits = bin(int(ipaddress.IPv6Address(self.netmask))).count("1")
            return ipaddress.ip_network(f"{self.address}/{bits}", strict=False)
        except ValueError:
            return None


def read_rules(rows: Iterable[dict[str, Any]] | None) -> list[Rule]:
    """Return the rules of the view ``pg_hba_file_rules``, in their order; broken lines are left out."""
    return [
        Rule(
            line=row["line_number"],
            type=row["type"],
            databases=tuple(row["database"]),
            users=tuple(row["user_name"]),
            address=row["address"] or "",
            netmask=row["netmask"] or "",
            method=row["auth_method"],
        )
        for row in rows or []
        if not row["error"]
    ]


def first_rule(rules: Iterable[Rule], who: Who, address: str) -> Rule | None:
    """Return the line that decides about a login from ``address``."""
    return next((rule for rule in rules if rule.covers(address) and rule.is_for(who)), None)


def refusal(rules: Iterable[Rule], who: Who, address: str) -> str:
    """Return why no login from ``address`` gets in, a container's own; empty where one may."""
    for rule in rules:
        if not (rule.covers(address) and rule.is_for(who)):
            continue
        if rule.method != "reject":
            return ""
        if rule.is_certain:
            return f"line {rule.line} rejects {who.user}"
    return f"no line lets {who.user} in"


def closes(rules: Iterable[Rule], who: Who) -> bool:
    """Tell whether no login over the network gets in, wherever it comes from."""
    for rule in rules:
        if rule.type not in NETWORK_TYPES or rule.is_loopback or not rule.is_for(who):
            continue
        if rule.method != "reject":
            return False
        if (rule.type, rule.address) == ("host", "all"):
            return True
    return True


def first_difference(rules: Iterable[Rule], one: Who, other: Who) -> Rule | None:
    """Return the first line for network logins that is for one of the two alone."""
    for rule in rules:
        if rule.type not in NETWORK_TYPES or rule.is_loopback:
            continue
        if rule.is_for(one) != rule.is_for(other):
            return rule
        if rule.is_for_everyone:
            return None
    return None


def _user_matches(word: str, who: Who) -> bool:
    if word == "all":
        return True
    if word.startswith("+"):
        return word[1:] in who.roles
    return _regex(word, who.user) if word.startswith("/") else word == who.user


def _database_matches(word: str, who: Who) -> bool:
    if word == "replication":
        return False
    if word == "sameuser":
        return who.database == who.user
    if word in ("samerole", "samegroup"):
        return who.database in who.roles
    return word == "all" or (_regex(word, who.database) if word.startswith("/") else word == who.database)


def _regex(word: str, name: str) -> bool:
    try:
        return re.search(word[1:], name) is not None
    except re.error:
        return False
