#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: consumer_command
short_description: Run the command by which a consumer outside Compose takes its new value
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Runs one command on the host to its end, such as C(systemctl restart backup), in a session of its own, with a small
    environment and without input. No shell reads it; where one is needed, say so with C(sh -c '...').
  - An exit code other than 0, and a command that does not end in time, fail. Then what it has written is saved, masked.
  - A command that is to go on must leave its output to itself, or it loses it when the module ends.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.lock
attributes:
  check_mode:
    support: full
    details:
      - With check mode nothing is run.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Nobody can tell whether it was run before, so it always is, and says changed.
options:
  consumer:
    description: The consumer's name.
    type: str
    required: true
  command:
    description: The words of the command.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds after which the command, and all that it has started in its session, is ended.
    type: float
    default: 120
  mask:
    description: Values that are masked in whatever is shown or saved.
    type: list
    elements: str
    default: []
  log_dir:
    description: Folder for the masked output of a command that failed. By default it is not saved.
    type: path
seealso:
  - module: chat4all.secrets.env_file
"""

EXAMPLES = r"""
- name: Have the backup job take its new password
  chat4all.secrets.consumer_command:
    consumer: backup-job
    command: [systemctl, restart, backup]
    timeout: 60
    log_dir: /var/log/chat4all
"""

RETURN = r"""
seconds:
  description: How long it took.
  returned: success, not in check mode
  type: float
service:
  description: The consumer whose command failed.
  returned: failure
  type: str
reason:
  description: Why, in one masked line.
  returned: failure
  type: str
log:
  description: The file with its masked output; empty without O(log_dir).
  returned: failure
  type: str
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.commands import run
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.state import LOCK_ARGUMENTS, make_folder, module_lock


def work(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    name, command = params["consumer"], params["command"]
    if not any(command[:1]):
        raise SecretsError(f"{name}: command holds no word")
    masker = Masker(params["mask"])
    with module_lock(dict(params), check_mode):
        if check_mode:
            return {"changed": True}
        began = time.monotonic()
        reason, text = run(command, params["timeout"], masker)
        if reason:
            raise _failed(params, masker, reason, text)
    return {"changed": True, "seconds": round(time.monotonic() - began, 1)}


def _failed(params: Mapping[str, Any], masker: Masker, reason: str, text: str) -> SecretsError:
    name, log, besides = params["consumer"], "", ""
    if params["log_dir"]:
        log = os.path.join(params["log_dir"], f"{name}.log")
        try:
            make_folder(params["log_dir"])
            atomic_write(log, (text.rstrip("\n") + "\n").encode("utf-8", "replace"))
        except SecretsError as error:
            log, besides = "", f"; its output could not be saved: {error.message}"
    message = f"{name} failed: {' '.join(params['command'])}: {reason}{besides}"
    return SecretsError(masker.shown(message), service=name, reason=reason, log=log)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "consumer": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "float", "default": 120},
            "mask": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "log_dir": {"type": "path"},
            **LOCK_ARGUMENTS,
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**work(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message, **error.details)


if __name__ == "__main__":
    main()
