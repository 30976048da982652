# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import ARGUMENTS, Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.provisioning import Provisioning


class ActionModule(ActionBase):
    """One step of provisioning."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                **ARGUMENTS,
                "step": {"type": "str", "required": True, "choices": ["store", "render", "separate"]},
                "info": {"type": "dict", "default": {}},
                "drift": {"type": "str", "choices": ["refuse", "replace", "accept"], "default": "refuse"},
            }
        )
        provisioning = Provisioning(Deployment(self, arguments, task_vars or {}), arguments)
        try:
            result.update(getattr(provisioning, arguments["step"])())
        except AnsibleConnectionFailure:
            provisioning.stop()
            raise
        except SecretsError as error:
            provisioning.stop()
            result.update(failed=True, msg=error.message)
        return result
