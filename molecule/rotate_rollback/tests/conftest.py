# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from pathlib import Path

import pytest


class RolledBack:
    """What must hold after a rotation that failed at ``service``, ``reason`` being in the line that says why."""

    def __init__(self, deployment, consumers, name: str, service: str, reason: str) -> None:
        self.deployment = deployment
        self.consumers = consumers
        self.printed = deployment.printed(name)
        _before, self.block = self.printed.split("STOPPED  postgres at roll out: ", 1)
        self.service = service
        self.reason = reason

    def check_block(self) -> None:
        """The block says what failed, that the services work, what a rerun does and where to look."""
        # It is wrapped at 100 columns.
        text = re.sub(r"\s+", " ", self.block)
        assert self.service in text.split(" Services ", 1)[0]
        assert self.reason in text.split(" Services ", 1)[0]
        assert "back on the old, valid" in text
        assert " Rerun " in text
        assert "Traceback" not in self.printed

    def check_log(self) -> None:
        """The failed container's log was kept, without any value."""
        text = re.sub(r"\s+", "", self.block)
        [path] = set(re.findall(rf"db1:(/\S+?/{self.service}[\w.-]*?\.log)", text))
        kept = self.deployment.host.file(path)
        assert kept.mode == 0o600
        assert self.service in Path(path).name
        assert kept.content_string.strip()
        assert not [value for value in self.deployment.values() if value in kept.content_string]

    def check_services(self) -> None:
        """Every consumer is healthy on the old value, which the server accepts."""
        old = self.deployment.seen()[0]
        assert self.deployment.login == old
        assert len(self.consumers) == 3
        assert {container.health for container in self.consumers} == {"healthy"}
        assert {container.environment["SPRING_DATASOURCE_PASSWORD"] for container in self.consumers} == {old[1]}
        assert self.deployment.log_in(*old) == f"chat4all {old[0]}"
        assert self.deployment.up() == set()

    def check_new_login(self) -> None:
        """The new login is of no use: only the old one may log in."""
        may = self.deployment.sql(
            "SELECT string_agg(rolname, ' ') FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL"
            " AND rolname LIKE 'chat4all%' AND rolname NOT LIKE '%admin%'"
        )
        assert may.split() == ["chat4all"]

    def check_output(self) -> None:
        assert self.deployment.leaks() == []

    def check_logins(self) -> None:
        assert self.deployment.logins().refused == 0


CHECKS = [name for name in vars(RolledBack) if name.startswith("check_")]


@pytest.fixture(params=CHECKS)
def check(request) -> str:
    return request.param


@pytest.fixture
def rolled_back(deployment, consumers):
    def make(name: str, service: str, reason: str) -> RolledBack:
        return RolledBack(deployment, consumers, name, service, reason)

    return make
