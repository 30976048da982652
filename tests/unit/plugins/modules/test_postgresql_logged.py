# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module writes its arguments to the system's log: no password is there, whatever characters it has."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.chat4all.secrets.plugins.modules import postgresql_credential, postgresql_credential_info

# Ansible masks these in what Python makes of a dict, where a backslash is doubled: it would find neither.
LOGIN = {"user": "chat4all_1", "password": "first\\part-of-the-password'\"ä"}
SERVER = {"container": "postgres-1", "owner": "chat4all", "admin": LOGIN}


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (postgresql_credential, {**SERVER, "credential": LOGIN, "current": LOGIN, "admin_login": LOGIN}),
        (postgresql_credential_info, {**SERVER, "credentials": [{"label": "current", **LOGIN}]}),
    ],
    ids=["credential", "info"],
)
def test_no_password_is_logged(module: Any, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda self, text, log_args=None: logged.append(f"{text} {log_args}"))
    monkeypatch.setattr(module, "work", lambda *_arguments: {"changed": False})
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    assert "postgres-1" in "".join(logged)
    assert "part-of-the-password" not in "".join(logged)
