# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which containers are looked at, and which input is refused; what their logs say is tested in test_logs.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.modules import service_logs

DEFAULTS = {
    "project_dir": "/srv/chat4all",
    "compose_files": [],
    "env_file": None,
    "project_name": None,
    "services": None,
    "containers": None,
    "started_after": None,
    "success": ["Started"],
    "failure": [],
    "timeout": 5,
    "quiet": 0,
    "mask_variables": [],
}


def container(name: str, service: str, started_at: str = "2026-11-24T04:00:00Z") -> SimpleNamespace:
    return SimpleNamespace(id=f"id-{name}", name=name, service=service, started_at=started_at, env={})


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs the module's work over a made-up project; it answers what was looked at."""
    project = SimpleNamespace(
        name="chat4all",
        directory="/srv/chat4all",
        env_file="/srv/chat4all/.env",
        services={"api": None, "web": None, "idle": None},
        containers=lambda: [
            container("api-1", "api"),
            container("api-2", "api", "2026-11-24T05:00:00.123456789Z"),
            container("web-1", "web"),
        ],
    )
    monkeypatch.setattr(service_logs.Project, "load", lambda *arguments: project)
    monkeypatch.setattr(service_logs, "inspect", lambda docker, ids: {key: {"Name": f"/{key[3:]}"} for key in ids})

    def verify(docker, states, success, failure, masker, timeout, quiet, since):
        return [
            {"name": key[3:], "status": "ok", "line": f"line of {key[3:]}", "reason": "", "seconds": 1.0 + number}
            for number, key in enumerate(states)
        ]

    monkeypatch.setattr(service_logs, "verify", verify)
    return lambda check_mode=False, **given: service_logs.work({**DEFAULTS, **given}, check_mode)


def names(result: dict) -> list[str]:
    return [row["name"] for row in result["containers"]]


def test_every_container_of_a_service_is_looked_at(run):
    result = run(services=["api"])
    assert names(result) == ["api-1", "api-2"]
    assert [row["service"] for row in result["containers"]] == ["api", "api"]
    assert result["line"] == "line of api-2"


def test_the_named_containers_alone_are_looked_at(run):
    assert names(run(containers=["web-1", "api-2"])) == ["web-1", "api-2"]


def test_containers_from_before_the_change_prove_nothing(run):
    assert names(run(services=["api"], started_after="2026-11-24T05:00:00Z")) == ["api-2"]
    with pytest.raises(SecretsError, match="web: was not started since 2026-11-24T05:00:00Z"):
        run(services=["api", "web"], started_after="2026-11-24T05:00:00Z")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"services": ["appi"]}, "appi: no such service in /srv/chat4all; there are: api, idle, web"),
        ({"services": ["idle"]}, "idle: has no container; start it first: docker compose up -d idle"),
        ({"containers": ["x"]}, "x: no such container in the project chat4all; there are: api-1, api-2, web-1"),
        ({"services": []}, "services: names no service"),
        ({"containers": []}, "services: names no service"),
        (
            {"services": ["api"], "success": ["("]},
            "success: '(' is not a regular expression: missing ), unterminated sub",
        ),
        ({"services": ["api"], "failure": ["[x"]}, "failure: '[x' is not a regular expression: unterminated character"),
        ({"services": ["api"], "success": []}, "success: needs a pattern"),
        ({"services": ["api"], "success": [".*"]}, "success: '.*' matches every line"),
        ({"services": ["api"], "timeout": 0}, "timeout and quiet are seconds"),
        ({"services": ["api"], "quiet": -1}, "timeout and quiet are seconds"),
        ({"services": ["api"], "started_after": "today"}, "started_after: 'today' is not a time with its zone"),
    ],
)
def test_bad_input_is_one_clear_line(run, given, message):
    with pytest.raises(SecretsError) as caught:
        run(**given)
    assert caught.value.message.startswith(message) and "\n" not in caught.value.message


def test_a_container_that_vanishes_before_it_is_looked_at_is_not_forgotten(run, monkeypatch):
    monkeypatch.setattr(service_logs, "inspect", lambda docker, ids: {"id-api-1": {}})
    with pytest.raises(SecretsError, match="api-2: was removed"):
        run(services=["api"])


def test_a_failure_names_the_container_and_returns_every_result(run, monkeypatch):
    rows = [
        {"name": "api-1", "status": "waiting", "line": "", "reason": "", "seconds": 2.0},
        {"name": "api-2", "status": "exited", "line": "panic", "reason": "exited with code 3", "seconds": 0.4},
    ]
    monkeypatch.setattr(service_logs, "verify", lambda *arguments: rows)
    with pytest.raises(SecretsError) as caught:
        run(services=["api"])
    assert caught.value.message == "api-2: exited with code 3 (after 0.4 s)"
    assert caught.value.details["containers"] == rows and caught.value.details["line"] == "panic"


def test_check_mode_waits_for_nothing_and_still_refuses_bad_input(run, monkeypatch):
    monkeypatch.setattr(service_logs, "verify", lambda *arguments: pytest.fail("read a log"))
    assert run(check_mode=True, services=["idle"])["skipped"]
    with pytest.raises(SecretsError, match="no such service"):
        run(check_mode=True, services=["appi"])
    with pytest.raises(SecretsError, match="not a regular expression"):
        run(check_mode=True, services=["api"], success=["("])
