# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import pytest
from ansible import constants
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.state import person
from ansible_collections.chat4all.secrets.plugins.plugin_utils import deployment as deployments
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment, is_gone, owner


def deployment(pipelining: bool = True) -> Deployment:
    action = SimpleNamespace(
        _task=SimpleNamespace(check_mode=False), _is_pipelining_enabled=lambda _module_style: pipelining
    )
    return Deployment(action, {"project_dir": "/srv/app"}, {"inventory_hostname": "db1"})


def test_nothing_is_done_where_ansible_would_show_arguments(monkeypatch):
    deployment().require_discretion()
    with pytest.raises(SecretsError, match="db1: pipelining is off"):
        deployment(pipelining=False).require_discretion()
    monkeypatch.setattr(constants, "DEFAULT_DEBUG", True)
    with pytest.raises(SecretsError, match="db1: ANSIBLE_DEBUG"):
        deployment().require_discretion()


@pytest.fixture
def ended() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen(["true"]) as process:
        return process.pid


def test_a_process_that_is_no_more_is_gone(ended):
    assert is_gone(owner(ended))
    assert not is_gone(owner()) and not is_gone(owner(1))


@pytest.mark.parametrize(
    ("name", "other"),
    [("boot_id", "another boot"), ("process_table", "4026539999"), ("getuser", "ben"), ("gethostname", "another")],
)
def test_of_a_process_that_is_not_seen_from_here_nothing_is_known(monkeypatch, ended, name, other):
    """Two containers of one name, say: each has processes of its own."""
    theirs = owner(ended)
    module = {"getuser": deployments.getpass, "gethostname": deployments.socket}.get(name, deployments)
    monkeypatch.setattr(module, name, lambda: other)
    assert not is_gone(theirs)


@pytest.mark.parametrize("holder", ["", "anna", "anna@laptop process 4194304", "anna@laptop process x #/"])
def test_of_an_owner_of_another_form_nothing_is_known(holder):
    assert not is_gone(holder)


def test_people_are_shown_user_machine_and_process():
    assert person(owner(4711)).endswith(" process 4711") and "@" in person(owner(4711))
    assert owner().startswith(f"{person(owner())} #") and str(os.getppid()) in person(owner())
    assert person("anna@laptop") == "anna@laptop"
