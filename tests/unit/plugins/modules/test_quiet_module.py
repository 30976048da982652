# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No password is in what a module writes to the system's log, nor in its result, whatever characters it has."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.chat4all.secrets.plugins.modules import (
    api_token_credential,
    api_token_credential_info,
    env_file,
    postgresql_credential,
    postgresql_credential_info,
    webhook_credential,
)

# Ansible masks these in what Python makes of a dict, where a backslash is doubled: it would find neither.
LOGIN = {"user": "chat4all_1", "password": "first\\part-of-the-password'\"ä"}
SERVER = {"container": "postgres-1", "owner": "chat4all", "admin": LOGIN}
PLATFORM = {"platform": "telegram", "ca": "/etc/ssl/postgres-1.pem"}
TOKEN = {"password": LOGIN["password"]}
MODULES = pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (postgresql_credential, {**SERVER, "credential": LOGIN, "current": LOGIN, "admin_login": LOGIN}),
        (postgresql_credential_info, {**SERVER, "credentials": [{"label": "current", **LOGIN}]}),
        (env_file, {"path": "postgres-1", "values": {"APP_USER": "chat4all_1", "APP_PASSWORD": LOGIN["password"]}}),
        (api_token_credential, {**PLATFORM, "credential": TOKEN, "seal_key": "ab" * 32}),
        (api_token_credential_info, {**PLATFORM, "credentials": [{"label": "current", **TOKEN}]}),
        (webhook_credential, {**PLATFORM, "token": TOKEN["password"], "credential": TOKEN}),
    ],
    ids=["credential", "info", "env_file", "token", "token_info", "webhook"],
)


def run(module: Any, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda self, text, log_args=None: logged.append(f"{text} {log_args}"))
    # A result that has both, as a mistake of ours would.
    told = {"changed": False, "diff": {}, "told": LOGIN["password"], "user": LOGIN["user"]}
    monkeypatch.setattr(module, "work", lambda *_arguments: told)
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    return "".join(logged)


@MODULES
def test_no_password_is_logged(module, arguments, monkeypatch, capsys) -> None:
    logged = run(module, arguments, monkeypatch)
    assert "postgres-1" in logged and "part-of-the-password" not in logged


@MODULES
def test_a_password_is_masked_in_a_result_and_a_user_name_is_not(module, arguments, monkeypatch, capsys) -> None:
    run(module, arguments, monkeypatch)
    result = capsys.readouterr().out
    assert '"user": "chat4all_1"' in result and "part-of-the-password" not in result


@MODULES
def test_a_wrong_option_shows_no_password(module, arguments, monkeypatch, capsys) -> None:
    run(module, {**arguments, "typing_error": True}, monkeypatch)
    result = capsys.readouterr().out
    assert "typing_error" in result and "part-of-the-password" not in result
