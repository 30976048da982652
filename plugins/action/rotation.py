# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import ARGUMENTS, Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.jwt_rotation import JWT_OPTIONS
from ansible_collections.chat4all.secrets.plugins.plugin_utils.serverless import rotation_of

STEPS = ["open", "create", "set", "test", "publish", "roll_out", "drain", "finish", "revoke", "back"]


class ActionModule(ActionBase):
    """One step of a rotation."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                **ARGUMENTS,
                "step": {"type": "str", "required": True, "choices": STEPS},
                "credential": {"type": "str", "required": True},
                "purpose": {"type": "str", "choices": ["rotate", "revoke", "abort"], "default": "rotate"},
                "drift": {"type": "str", "choices": ["refuse", "replace"], "default": "refuse"},
                "end_grace": {"type": "bool", "default": False},
                "confirmed": {"type": "bool", "default": False},
                "confirmed_by": {"type": "list", "elements": "str", "default": []},
                "jwt": JWT_OPTIONS,
                "opened": {"type": "dict", "default": {}},
                "accepted": {"type": "dict", "default": {}},
                "rolled": {"type": "dict", "default": {}},
                "ended": {"type": "dict", "default": {}},
                "skip_services": {"type": "list", "elements": "str", "default": []},
                "accept_weak": {"type": "bool", "default": False},
                "end_sessions": {"type": "bool", "default": False},
                "take_lock": {"type": "str"},
                "rollout": {
                    "type": "dict",
                    "default": {},
                    "options": {
                        "hosts": {"type": "int"},
                        "parallel": {"type": "int"},
                        "timeout": {"type": "float"},
                        "quiet": {"type": "float"},
                        "settle": {"type": "float"},
                        "failure_log": {"type": "list", "elements": "str"},
                    },
                },
                "drain": {
                    "type": "dict",
                    "default": {},
                    "options": {"quiet": {"type": "float"}, "timeout": {"type": "float"}},
                },
            }
        )
        step = arguments["step"]
        deployment = Deployment(self, arguments, task_vars or {})
        rotation = rotation_of(deployment, arguments["credential"], arguments)
        if deployment.check_mode and step != "open":
            result.update(skipped=True, msg="nothing is touched under --check")
            return result
        try:
            if step == "open":
                rotation.check_options()
            result.update(getattr(rotation, step)())
        except AnsibleConnectionFailure as error:
            # Ansible ends the host's play here, without a rescue.
            raise AnsibleConnectionFailure(rotation.unreachable(step, error)) from None
        except SecretsError as error:
            msg = error.message if step != "open" else f"STOPPED at open: {error.message}. Nothing was changed."
            result.update(failed=True, msg=msg)
            if step not in ("open", "back"):
                rotation.remember(step, error)
        return result
