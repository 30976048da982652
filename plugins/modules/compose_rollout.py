#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_rollout
short_description: Replace the stale containers of a Compose project in waves, without a gap where that is possible
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Brings services to their present configuration (Compose files and C(.env)) in waves along C(depends_on).
  - Start-first is the rule. The new containers of a wave are made beside the old ones, must get healthy and pass the check of their
    logs, and only then the old ones are stopped and removed. Stop-first is used where two containers cannot run beside one another
    (C(container_name), host port, static address, anonymous or writable volume, devices), and its gap is measured.
  - Afterwards a plain C(docker compose up -d) recreates nothing; this is checked.
  - When a service does not come up, its log is saved masked, the new containers of its wave are removed while the old ones still
    run, and the module fails. To go back, restore C(.env) and run the module again.
  - It has no memory of an earlier run, so it can be killed anywhere and run again.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.project
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  services:
    description: The services that may be replaced; all of the project by default.
    type: list
    elements: str
  options:
    description:
      - Exceptions by service. Keys are C(replace) (V(auto), V(start_first), V(stop_first)), C(ready_log), C(failure_log),
        C(rerun), C(after) (C(service), C(exec)) and C(timeout).
    type: dict
    default: {}
  parallel:
    description: How many services of a wave are replaced at the same time.
    type: int
    default: 12
  timeout:
    description: Seconds until a new container must be ready.
    type: float
    default: 120
  quiet:
    description: Seconds for which a ready container has to stay without a failure, before its old one goes.
    type: float
    default: 1
  settle:
    description: Seconds that a proxy is given to find the new container, before the old one is stopped.
    type: float
    default: 1
  failure_log:
    description: Regular expressions of log lines that end the wait at once, beside the built-in ones.
    type: list
    elements: str
    default: []
  mask_variables:
    description: Variables whose values, in C(.env) and in the containers' environments, are masked in whatever is shown or saved.
    type: list
    elements: str
    default: []
  accept_weak:
    description: Replace services that have neither health check nor log pattern.
    type: bool
    default: false
  log_dir:
    description: Folder for the masked log of a container that did not come up.
    type: path
  progress:
    description: A file to which a line (JSON with C(t), C(service), C(text)) is appended as each service is done.
    type: path
  state_dir:
    description: The deployment's state folder, whose lock is held while the module works.
    type: path
"""

EXAMPLES = r"""
- name: Bring every service to the present configuration
  chat4all.secrets.compose_rollout:
    project_dir: /srv/chat4all
    options:
      migrate:
        rerun: safe
      scheduler:
        replace: stop_first
"""

RETURN = r"""
services:
  description: >-
    What was done for each service that was replaced; C(mode), C(replaced) (number of old containers), C(seconds), C(gap_s) (seconds
    without service), C(new) (names of the new containers).
  returned: success
  type: dict
waves:
  description: The services that were, or with check mode would be, replaced, in waves.
  returned: success
  type: list
  elements: list
addresses:
  description: The service of every container address of the project, afterwards.
  returned: success, not in check mode
  type: dict
seconds:
  description: How long it took.
  returned: success, not in check mode
  type: float
service:
  description: The service that did not come up.
  returned: failure
  type: str
log:
  description: The file with its masked log.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import (
    PROJECT_OPTIONS,
    project_arguments,
    secret_values,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.rollout import Rollout, Settings
from ansible_collections.chat4all.secrets.plugins.module_utils.state import kernel_lock


def roll(params: dict, check_mode: bool) -> dict:
    masker = Masker()
    project = Project.load(DockerCli(masker), *project_arguments(params))
    masker.add(*secret_values(params, project, params["mask_variables"]))
    settings = Settings(
        services=list(project.services) if params["services"] is None else params["services"],
        **{key: params[key] for key in ("options", "parallel", "timeout", "quiet", "settle", "failure_log")},
        **{key: params[key] for key in ("accept_weak", "log_dir", "progress")},
    )
    rollout = Rollout(project, settings, masker)
    with kernel_lock(None if check_mode else params["state_dir"]):
        waves = rollout.plan()
        names = [[item.service for item in wave] for wave in waves]
        if check_mode:
            return {"changed": bool(waves), "services": {}, "waves": names}
        return {"waves": names, **rollout.run(waves)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **PROJECT_OPTIONS,
            "services": {"type": "list", "elements": "str"},
            "options": {"type": "dict", "default": {}},
            "parallel": {"type": "int", "default": 12},
            "timeout": {"type": "float", "default": 120},
            "quiet": {"type": "float", "default": 1},
            "settle": {"type": "float", "default": 1},
            "failure_log": {"type": "list", "elements": "str", "default": []},
            "mask_variables": {"type": "list", "elements": "str", "default": []},
            "accept_weak": {"type": "bool", "default": False},
            "log_dir": {"type": "path"},
            "progress": {"type": "path"},
            "state_dir": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**roll(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message, **error.details)


if __name__ == "__main__":
    main()
