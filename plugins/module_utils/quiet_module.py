# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module with secrets inside of dicts, kept out of its log and its result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

try:
    from ansible.module_utils.secrets import register_secrets
except ImportError:  # before ansible-core 2.22, which masks in the output of a whole run what it was told

    def register_secrets(values: Iterable[str]) -> None:
        """Do nothing."""


class QuietModule(AnsibleModule):
    """``show`` returns the options as anybody may see them, ``secrets`` the secrets that no suboption is marked for.

    Ansible's own means are to mark the dict. But what it logs of one that is not marked is its Python form, in which it
    finds no password with a backslash; and of one that is, core 2.22 blacks out every user name in a run's output.
    """

    def __init__(
        self,
        show: Callable[[dict[str, Any]], dict[str, Any]],
        secrets: Callable[[dict[str, Any]], Iterable[str]] = lambda params: (),
        **arguments: Any,
    ) -> None:
        self._show = show
        self._shown: dict[str, Any] = {}  # while the options are not known to be what they must be
        super().__init__(**arguments)
        self._shown = show(self.params)
        marked = set(secrets(self.params))
        # Ansible would black out a user name, or a path, wherever a weak password is the same word.
        public = json.dumps(self._shown, ensure_ascii=False)
        self.no_log_values = {value for value in {*self.no_log_values, *marked} if value not in public}
        register_secrets(marked & self.no_log_values)

    def _log_invocation(self) -> None:
        shown = " ".join(f"{name}={value}" for name, value in self._show(self.params).items())
        self.log(f"Invoked with {shown}")

    def exit_json(self, **result: Any) -> NoReturn:
        super().exit_json(**result, invocation={"module_args": self._shown})

    def fail_json(self, msg: str, **result: Any) -> NoReturn:
        super().fail_json(msg, **result, invocation={"module_args": self._shown})
