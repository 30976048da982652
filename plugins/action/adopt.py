# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils.adopting import Adoption
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import ARGUMENTS, Deployment

STEPS = ["look", "write", "wrap", "reseal", "store", "accept"]


class ActionModule(ActionBase):
    """One step of adopting a deployment."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                **ARGUMENTS,
                "step": {"type": "str", "required": True, "choices": STEPS},
                "accept": {"type": "list", "elements": "str", "default": []},
                "draft": {"type": "str", "default": ""},
            }
        )
        adoption = Adoption(Deployment(self, arguments, task_vars or {}), arguments)
        try:
            result.update(getattr(adoption, arguments["step"])())
        except SecretsError as error:
            result.update(failed=True, msg=error.message)
        return result
