#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_logs
short_description: Verify by its log that a Compose service works
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Follows the logs of containers, each from its own start, until every one of them has written a line that matches
    O(success) and, for O(quiet) seconds after it, none that matches a failure pattern.
  - A failure line ends the wait at once. So does a container that exits, whatever its exit code, or starts again.
  - Both output streams are read. What an earlier run of the same container has written does not count.
  - Lines are shown without terminal escapes, in at most 300 characters, and with secrets masked. The masked forms are
    plain, base64, hexadecimal, percent-encoded and JSON-escaped.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.attributes.info_module
  - chat4all.secrets.project
attributes:
  check_mode:
    support: full
    details:
      - The patterns and the services are checked and nothing is waited for, since nothing was started.
options:
  services:
    description:
      - The Compose services to verify. Every container of theirs counts, that is as many as the service is scaled to.
      - Exactly one of O(services) and O(containers) is required.
    type: list
    elements: str
  containers:
    description: Names of containers of the project, when only some of a service's are meant.
    type: list
    elements: str
  started_after:
    description:
      - Only containers that were started at this time or later are looked at, so that the ones which a change has not
        reached prove nothing. It is an error when a service has none of them.
      - A time with its zone, such as V(2026-11-24T03:10:00Z), by the clock of the host where the engine runs.
      - A container that was restarted by its restart policy since then has failed.
    type: str
  success:
    description:
      - Regular expressions (Python's) of which one has to be found in a line of every container.
      - They are searched without a time limit. Avoid nested repetitions such as V((a+\)+), which may never end.
    type: list
    elements: str
    default: ['Started \w*Application']
  failure:
    description:
      - Regular expressions (Python's) of lines that end the wait at once.
      - They are added to the built-in ones, which are what clients of PostgreSQL, MongoDB, Redis and S3 say when a
        credential is refused, such as C(password authentication failed) and C(WRONGPASS).
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds until every container must have written its line of success.
    type: float
    default: 120
  quiet:
    description: Seconds after the line of success for which the container must run on without a line of failure.
    type: float
    default: 1
  mask_variables:
    description:
      - Names of variables whose values, in O(env_file) and in the environment of the project's containers, are masked.
      - Masked in any case are the variables of a container that have PASS, PWD, SECRET, TOKEN, KEY, CREDENTIAL, AUTH,
        URI, URL, DSN or SALT in their names, and passwords inside URLs and connection strings.
    type: list
    elements: str
    default: []
seealso:
  - module: chat4all.secrets.compose_rollout
"""

EXAMPLES = r"""
- name: Make a new container of the message service
  # No module does this for one service.
  ansible.builtin.command:
    cmd: docker compose up -d --force-recreate message-service
    chdir: /srv/chat4all
  changed_when: true

- name: Wait until it has started
  chat4all.secrets.service_logs:
    project_dir: /srv/chat4all
    services:
      - message-service
    success:
      - Started MessageServiceApplication
    failure:
      - OutOfMemoryError
    timeout: 60
    quiet: 3
    mask_variables:
      - POSTGRES_PASSWORD

- name: Verify what this play has started
  chat4all.secrets.service_logs:
    project_dir: /srv/chat4all
    services:
      - api-gateway
      - user-service
    started_after: "{{ ansible_facts.date_time.iso8601 }}"
"""

RETURN = r"""
containers:
  description: The result of each container.
  returned: when there are containers to look at
  type: list
  elements: dict
  contains:
    name:
      description: The container's name.
      type: str
      sample: chat4all-message-service-2
    service:
      description: Its Compose service.
      type: str
      sample: message-service
    status:
      description: >-
        V(ok), V(failed) (a line of failure), V(exited), V(restarted), V(gone) (removed), V(timed_out), V(unreadable)
        (its log driver keeps nothing that could be read), or V(waiting) where another container's failure has ended the
        wait before.
      type: str
    line:
      description: The line that decided, masked. The last one where none did.
      type: str
      sample: Started MessageServiceApplication in 3.2 seconds
    reason:
      description: What is wrong; empty where nothing is.
      type: str
    seconds:
      description: The seconds until that line was read, from the moment the module began to look.
      type: float
      sample: 3.4
line:
  description: The masked line that decided last, or the one of the container that failed.
  returned: when there are containers to look at
  type: str
  sample: Started MessageServiceApplication in 3.2 seconds
seconds:
  description: How long the wait was, with its quiet time.
  returned: when there are containers to look at
  type: float
  sample: 4.4
"""

import signal
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container, Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.logs import (
    DEFAULT_FAILURES,
    inspect,
    moment,
    patterns,
    verify,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import (
    PROJECT_OPTIONS,
    project_arguments,
    secret_values,
)


def chosen(project: Project, params: dict, since: float | None) -> dict[str, Container]:
    """Return the containers that are meant, by their ids; raises :class:`SecretsError` for a name without one."""
    key = "service" if params["services"] else "name"
    found: dict[str, Container] = {}
    containers = project.containers()
    for name in params["services"] or params["containers"]:
        mine = [container for container in containers if getattr(container, key) == name]
        if not mine and key == "name":
            there = ", ".join(sorted(container.name for container in containers)) or "none"
            raise SecretsError(f"{name}: no such container in the project {project.name}; there are: {there}")
        if not mine:
            raise SecretsError(f"{name}: has no container; start it first: docker compose up -d {name}")
        recent = [container for container in mine if since is None or moment(container.started_at) >= since]
        if not recent:
            raise SecretsError(f"{name}: was not started since {params['started_after']}")
        found.update({container.id: container for container in recent})
    return found


def work(params: dict, check_mode: bool) -> dict:
    success = patterns(params["success"], "success")
    failure = patterns([*DEFAULT_FAILURES, *params["failure"]], "failure")
    if not success:
        raise SecretsError("success: needs a pattern, or nothing would show that a service works")
    if params["timeout"] <= 0 or params["quiet"] < 0:
        raise SecretsError("timeout and quiet are seconds: timeout must be more than 0, quiet not less than 0")
    if not params["services"] and not params["containers"]:
        raise SecretsError("services: names no service")
    since = moment(params["started_after"], "started_after") if params["started_after"] else None
    masker = Masker()
    docker = DockerCli(masker)
    project = Project.load(docker, *project_arguments(params))
    masker.add(*secret_values(project, params["mask_variables"]))
    for name in params["services"] or []:
        if name not in project.services:
            there = ", ".join(sorted(project.services))
            raise SecretsError(f"{name}: no such service in {project.directory}; there are: {there}")
    if check_mode:
        return {"skipped": True, "msg": "check mode: nothing was started whose log could be read"}
    containers = chosen(project, params, since)
    began = time.monotonic()
    states = inspect(docker, list(containers))
    for container_id, container in containers.items():
        if container_id not in states:
            raise SecretsError(f"{container.name}: was removed")
    results = verify(docker, states, success, failure, masker, params["timeout"], params["quiet"], since)
    for container_id, result in zip(states, results):
        result["service"] = containers[container_id].service
    bad = next((result for result in results if result["reason"]), None)
    decisive = bad or max(results, key=lambda result: result["seconds"])
    facts = {"containers": results, "line": decisive["line"], "seconds": round(time.monotonic() - began, 1)}
    if bad:
        raise SecretsError(f"{bad['name']}: {bad['reason']} (after {bad['seconds']:g} s)", **facts)
    return facts


def stop(*_signal: object) -> None:
    raise SystemExit(1)


def main() -> None:
    # Ended by somebody, it still ends the processes that follow the logs.
    signal.signal(signal.SIGTERM, stop)
    module = AnsibleModule(
        argument_spec={
            **PROJECT_OPTIONS,
            "services": {"type": "list", "elements": "str"},
            "containers": {"type": "list", "elements": "str"},
            "started_after": {"type": "str"},
            "success": {"type": "list", "elements": "str", "default": [r"Started \w*Application"]},
            "failure": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "float", "default": 120},
            "quiet": {"type": "float", "default": 1},
            "mask_variables": {"type": "list", "elements": "str", "default": []},
        },
        required_one_of=[["services", "containers"]],
        mutually_exclusive=[["services", "containers"]],
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **work(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message, **error.details)


if __name__ == "__main__":
    main()
