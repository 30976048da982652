# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The count of logins, over real logs of PostgreSQL 15 and 17: with addresses, and with names (log_hostname = on)."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.chat4all.secrets.tests.benchmarks.counters import LoginCounter, Logins

HERE = Path(__file__).parent
LOGS = ("postgresql-15.log", "postgresql-15-names.log", "postgresql-17.log", "postgresql-17-names.log")
OWN_HOSTS = frozenset({"172.29.77.2", "pghost"})


def count(lines: list[str], own_hosts: frozenset[str] = OWN_HOSTS) -> LoginCounter:
    counter = LoginCounter(own_hosts)
    for line in lines:
        counter.feed(line)
    return counter


def read(name: str) -> list[str]:
    return (HERE / name).read_text().splitlines()


@pytest.mark.parametrize("name", LOGS)
def test_every_login_of_a_real_log_is_counted_once_and_for_what_it_was(name: str) -> None:
    logins = count(read(name)).logins
    assert (logins.attempts, logins.accepted, logins.refused, logins.abandoned) == (10, 4, 5, 1)
    assert logins.reasons == {
        'password authentication failed for user "chat4all"': 1,
        'password authentication failed for user "nobody here"': 1,
        'database "nodb" does not exist': 1,
        'role "nologin" is not permitted to log in': 1,
        'too many connections for role "limited"': 1,
    }


@pytest.mark.parametrize("name", LOGS)
def test_our_own_logins_are_left_out_and_counted_apart(name: str) -> None:
    logins = count(read(name)).logins
    assert (logins.probes, logins.negative_probes, logins.controls, logins.local) == (2, 1, 1, 4)


@pytest.mark.parametrize("name", LOGS)
def test_without_our_address_our_probes_are_consumers_like_any_other(name: str) -> None:
    logins = count(read(name), set()).logins
    assert (logins.attempts, logins.refused, logins.probes) == (12, 6, 0)


def test_a_login_belongs_to_the_stretch_in_which_it_began() -> None:
    lines = read("postgresql-17.log")
    refusal = next(number for number, line in enumerate(lines) if "FATAL:  password" in line)
    counter = count(lines[:refusal])
    first = counter.next_stretch()
    assert first.refused == 0
    for line in lines[refusal:]:
        counter.feed(line)
    assert (first.refused, counter.logins.refused) == (1, 4)
    assert first + counter.logins == count(lines).logins


def test_a_process_number_that_comes_back_is_a_new_login() -> None:
    lines = [line for line in read("postgresql-15.log") if "[75]" in line]
    logins = count(lines + lines).logins
    assert (logins.attempts, logins.refused) == (2, 2)


def test_the_application_name_of_a_local_login_is_handed_back() -> None:
    names = [LoginCounter(OWN_HOSTS).feed(line) for line in read("postgresql-17.log")]
    assert set(names) == {None}
    counter = LoginCounter(OWN_HOSTS)
    assert [name for line in read("postgresql-17.log") if (name := counter.feed(line))] == ["pg_isready"] + ["psql"] * 3


def test_lines_of_other_shapes_are_passed_over() -> None:
    assert count(["", "\tcontinued", "PostgreSQL init process complete", "FATAL:  no prefix"]).logins == Logins()
