# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.modules import compose_rollout

PARAMS = {
    "project_dir": "/srv/demo",
    "compose_files": [],
    "env_file": None,
    "project_name": None,
    "services": None,
    "mask_variables": [],
    "state_dir": None,
    "holder": None,
    "ledger": [],
    "options": {},
    "parallel": 16,
    "timeout": 120.0,
    "quiet": 1.0,
    "settle": 1.0,
    "failure_log": [],
    "accept_weak": False,
    "fingerprints": {},
    "fingerprint_key": None,
    "log_dir": None,
    "progress": None,
}


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """What the module hands on; no Docker."""
    seen = {}
    project = SimpleNamespace(services={"a": None, "b": None}, directory=str(tmp_path))

    class FakeRollout:
        not_running = ["b"]

        def __init__(self, _project, settings, _masker):
            seen["settings"] = settings

        def plan(self):
            return [[SimpleNamespace(service="a")]]

        def outline(self, _waves):
            return {"changed": True, "services": {"a": {"mode": "start_first"}}}

        def run(self, waves):
            seen["locked"] = (tmp_path / ".chat4all" / "lock").exists()
            return {**self.outline(waves), "seconds": 1.0}

    monkeypatch.setattr(compose_rollout.Project, "load", lambda *_arguments: project)
    monkeypatch.setattr(compose_rollout, "secret_values", lambda *_arguments: set())
    monkeypatch.setattr(compose_rollout, "Rollout", FakeRollout)
    return seen


def test_all_services_and_the_usual_state_folder_by_default(seen, tmp_path):
    assert compose_rollout.roll(PARAMS, check_mode=False) == {
        "changed": True,
        "waves": [["a"]],
        "services": {"a": {"mode": "start_first"}},
        "not_running": ["b"],
        "seconds": 1.0,
    }
    assert (seen["settings"].services, seen["settings"].state_dir) == (["a", "b"], str(tmp_path / ".chat4all"))
    assert seen["locked"]


def test_check_mode_plans_and_locks_nothing(seen, tmp_path):
    result = compose_rollout.roll({**PARAMS, "services": ["a"]}, check_mode=True)
    assert result["changed"] and "seconds" not in result
    assert seen["settings"].services == ["a"]
    assert not (tmp_path / ".chat4all").exists()


def test_exceptions_for_services_that_do_not_exist_are_refused(seen):
    with pytest.raises(SecretsError, match=r"secrets_services\.c: no such service"):
        compose_rollout.roll({**PARAMS, "options": {"c": {}}}, check_mode=True)


def test_every_option_is_documented():
    documented = yaml.safe_load(compose_rollout.DOCUMENTATION)["options"]
    by_fragments = {"project_dir", "compose_files", "env_file", "project_name", "holder", "ledger"}
    assert {*PARAMS} - {*documented} == by_fragments
