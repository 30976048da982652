# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible import constants
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment


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
