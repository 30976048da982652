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
  - Brings services to their present configuration (Compose files and C(.env)), in waves along C(depends_on).
  - Start-first is the rule. The new containers of a wave are made beside the old ones, must get healthy and pass the
    check of their logs, and only then the old ones are stopped and removed. The number of containers that run stays
    what it is.
  - Stop-first is used where two containers cannot exist beside one another (C(container_name), host port, static
    address, C(network_mode)), where both would write the same data (a volume or folder with one writer, an anonymous
    volume, devices), or where it is declared. Its gap is measured.
  - A one-shot job, which others wait for with C(service_completed_successfully), is run again.
  - What does not run is not started. A stopped container is made anew, so that it cannot come back with the old value.
  - Afterwards a plain C(docker compose up -d) recreates none of these services; this is checked.
  - When a service does not come up, its log is saved masked, the new containers of its wave are removed where the old
    ones still run, and the module fails. To go back, restore C(.env) and run the module again.
  - It can be killed at any point and run again.
notes:
  - Containers get new names and addresses. A proxy that looks up names at its start only needs a reload, see C(after)
    in O(options).
  - Docker's DNS shows a new container before it is healthy. Who calls a service by its name, and not through a proxy that
    checks its health, sees some refused calls while it is replaced start-first; M(chat4all.secrets.catalog_info) names
    them (C(called_by)). Where that must not be, declare C(replace=stop_first), whose gap is announced, or put a proxy in
    between.
  - Where C(replace=start_first) is declared for a service with anonymous volumes, the new container begins with empty
    ones; those of the old one are left to C(docker volume prune).
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.lock
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
      - Exceptions by service, each a dictionary with any of the following keys.
      - C(replace) is V(auto) (default), V(start_first) or V(stop_first).
      - C(ready_log) is a regular expression that the new container's log must match, besides its health check if it has
        one.
      - C(failure_log) is a regular expression or a list of them, added to O(failure_log) for this service.
      - C(rerun) must be V(safe) for a one-shot job that has run before.
      - C(after) names a C(service) of the project and a command, C(exec), that is run in its containers once the new
        containers are ready, and once more when the old ones are gone.
      - C(timeout) replaces O(timeout) for this service, in seconds or as V(2m).
      - Everything is checked before anything is touched. A key without a value counts as left out.
    type: dict
    default: {}
  parallel:
    description: How many services of a wave are replaced at the same time. Each needs the memory of two meanwhile.
    type: int
    default: 16
  timeout:
    description: Seconds until a new container must be ready, or a job must have ended.
    type: float
    default: 120
  quiet:
    description: Seconds for which a ready container has to stay without a failure, before its old one goes.
    type: float
    default: 1
  settle:
    description: Seconds that a proxy is given to find the new containers, once they are ready, before the old ones are
      stopped.
    type: float
    default: 1
  failure_log:
    description:
      - Regular expressions of log lines that end the wait at once.
      - They are added to those of M(chat4all.secrets.service_logs), such as C(password authentication failed).
    type: list
    elements: str
    default: []
  mask_variables:
    description:
      - Variables whose values, in C(.env) and in the containers' environments, are masked in whatever is shown or saved.
      - Variables whose names say that they are secrets, and passwords inside URLs, are masked in any case.
    type: list
    elements: str
    default: []
  fingerprints:
    description:
      - Keyed fingerprints of what the project's env file holds, by variable. Where it holds another value, somebody else
        has set it, and nothing is replaced, since Compose deploys whatever is there.
      - Looked at before the first container is replaced, and once more after the last.
    type: dict
    default: {}
  fingerprint_key:
    description: Key (hexadecimal) of the fingerprints.
    type: str
  accept_weak:
    description: Replace services that have neither health check nor C(ready_log).
    type: bool
    default: false
  log_dir:
    description: Folder for the masked log of a container that did not come up. By default it is not saved.
    type: path
  progress:
    description: A file to which a line (JSON with C(t), C(service), C(text)) is appended as each service is done.
    type: path
  state_dir:
    description:
      - The deployment's state folder, C(.chat4all) in O(project_dir) by default. Its lock is held while the module
        works.
      - C(rollout.json) in it remembers which services have to run although an interrupted run has stopped them.
    type: path
seealso:
  - module: chat4all.secrets.env_file
  - module: chat4all.secrets.service_logs
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
      api-gateway:
        ready_log: Started .*Application
        after:
          service: nginx
          exec: nginx -s reload
    mask_variables:
      - POSTGRES_PASSWORD
    log_dir: /var/log/chat4all
"""

RETURN = r"""
waves:
  description: The services that were, or with check mode would be, replaced, in waves.
  returned: success
  type: list
  elements: list
  sample: [[migrate], [message-service, user-service], [api-gateway]]
services:
  description: What was done, or with check mode would be done, for each service that was not at its present
    configuration.
  returned: success
  type: dict
  contains:
    mode:
      description: C(start_first), C(stop_first), C(job), or C(stopped) for one that was not running.
      type: str
    reason:
      description: Why this mode; empty for C(start_first) by default.
      type: str
    evidence:
      description: What shows that it works, C(health check), C(log "..."), C(exit code 0) or C(none).
      type: str
    replaced:
      description: How many old containers there were.
      type: int
    new:
      description: The names of its containers afterwards. Empty with check mode.
      type: list
      elements: str
    seconds:
      description: How long it took.
      type: float
    gap_s:
      description: Seconds from the old container's stop until the new one worked; 0 where the new one came first.
      type: float
not_running:
  description: Services of which nothing ran; they were not started.
  returned: success
  type: list
  elements: str
addresses:
  description: The service of every container address of the project, afterwards.
  returned: success, not in check mode
  type: dict
  sample: {172.18.0.5: user-service}
seconds:
  description: How long it took.
  returned: success, not in check mode
  type: float
service:
  description: The service that did not come up.
  returned: failure
  type: str
reason:
  description: Why, in one masked line.
  returned: failure
  type: str
waited:
  description: Seconds after which it was given up.
  returned: failure
  type: float
log:
  description: The file with its masked log; empty without O(log_dir).
  returned: failure
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import service_options
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import read_plain_file
from ansible_collections.chat4all.secrets.plugins.module_utils.fingerprints import foreign
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import (
    PROJECT_OPTIONS,
    project_arguments,
    secret_values,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.rollout import Rollout, Settings
from ansible_collections.chat4all.secrets.plugins.module_utils.state import LOCK_ARGUMENTS, module_lock

SETTINGS = ("parallel", "timeout", "quiet", "settle", "failure_log", "accept_weak", "log_dir", "progress")


def check_env_file(project: Project, params: dict) -> None:
    """Refuse where the env file holds another value than it should."""
    if not params["fingerprints"]:
        return
    known = {variable: [value] for variable, value in params["fingerprints"].items()}
    text = (read_plain_file(project.env_file) or b"").decode("utf-8", "surrogateescape")
    theirs = foreign(text, project.env_file, params["fingerprint_key"], known)
    if theirs:
        raise SecretsError(f"{project.env_file}: somebody else has changed {' and '.join(theirs)}", foreign=theirs)


def roll(params: dict, check_mode: bool) -> dict:
    masker = Masker()
    project = Project.load(DockerCli(masker), *project_arguments(params))
    options = service_options(params["options"], project.services, project.directory)
    masker.add(*secret_values(project, params["mask_variables"]))
    state_dir = params["state_dir"] or os.path.join(project.directory, ".chat4all")
    with module_lock({**params, "state_dir": state_dir}, check_mode):
        services = list(project.services) if params["services"] is None else params["services"]
        settings = Settings(services, options, state_dir=state_dir, **{key: params[key] for key in SETTINGS})
        check_env_file(project, params)
        rollout = Rollout(project, settings, masker)
        waves = rollout.plan()
        result = rollout.outline(waves) if check_mode else rollout.run(waves)
        check_env_file(project, params)
        names = [[item.service for item in wave] for wave in waves]
        return {"waves": names, "not_running": rollout.not_running, **result}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **PROJECT_OPTIONS,
            "services": {"type": "list", "elements": "str"},
            "options": {"type": "dict", "default": {}},
            "parallel": {"type": "int", "default": 16},
            "timeout": {"type": "float", "default": 120},
            "quiet": {"type": "float", "default": 1},
            "settle": {"type": "float", "default": 1},
            "failure_log": {"type": "list", "elements": "str", "default": []},
            "mask_variables": {"type": "list", "elements": "str", "default": []},
            "fingerprints": {"type": "dict", "default": {}},
            "fingerprint_key": {"type": "str", "no_log": True},
            "accept_weak": {"type": "bool", "default": False},
            "log_dir": {"type": "path"},
            "progress": {"type": "path"},
            **LOCK_ARGUMENTS,
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**roll(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message, **error.details)


if __name__ == "__main__":
    main()
