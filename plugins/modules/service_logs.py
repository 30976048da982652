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
  - Follows the logs of a service's containers from the start of each container, until every one of them has written a line that
    matches O(success), and has then been quiet (no failure) for O(quiet) seconds.
  - A line that matches a failure pattern, and a container that has ended or restarts, end the wait at once.
  - Lines are shown without terminal escapes and with secrets masked.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.attributes.info_module
  - chat4all.secrets.project
options:
  services:
    description: The services whose logs are read.
    type: list
    elements: str
    required: true
  started_after:
    description:
      - Only containers that were started after this time (ISO 8601) count; an older one is left out, so that a log from before a
        change proves nothing.
    type: str
  success:
    description: Regular expressions (Python); one of them has to match a line of every container.
    type: list
    elements: str
    default: ['Started \w*Application']
  failure:
    description: Regular expressions of lines that end the wait at once, beside the built-in ones.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds until every container must have matched.
    type: float
    default: 120
  quiet:
    description: Seconds for which no failure may follow.
    type: float
    default: 1
  mask_variables:
    description: Variables whose values, in C(.env) and in the containers' environments, are masked.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Wait until the message service has started
  chat4all.secrets.service_logs:
    project_dir: /srv/chat4all
    services:
      - message-service
    success:
      - 'Started MessageServiceApplication'
    failure:
      - OutOfMemoryError
"""

RETURN = r"""
containers:
  description: >-
    For each container C(name), C(service), C(status) (V(matched)), C(line) (the line that matched, masked) and C(seconds).
    With a failure the status can also be V(failed), V(exited), V(restarting) or V(waiting).
  returned: always
  type: list
  elements: dict
seconds:
  description: How long it took.
  returned: always
  type: float
"""

import contextlib
import datetime
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container, Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.logs import DEFAULT_FAILURES, LogWatch, patterns
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import (
    PROJECT_OPTIONS,
    project_arguments,
    secret_values,
)

POLL = 0.25


def moment(text: str) -> datetime.datetime:
    """Return an ISO 8601 time; Docker's has nanoseconds, which Python does not read."""
    head, dot, rest = text.replace("Z", "+00:00").partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        head = f"{head}.{rest[: min(digits, 6)].ljust(6, '0')}{rest[digits:]}"
    try:
        parsed = datetime.datetime.fromisoformat(head)
    except ValueError:
        raise SecretsError(f"started_after: {text!r} is not a time; write 2026-01-31T03:10:00+00:00") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.timezone.utc)


def chosen(project: Project, services: list[str], started_after: str | None) -> list[Container]:
    """Return the containers to look at; raises where a service has none."""
    unknown = sorted(set(services) - set(project.services))
    if unknown:
        raise SecretsError(f"{unknown[0]}: no such service in {project.directory}; there are {', '.join(sorted(project.services))}")
    found = project.containers(services)
    if started_after:
        after = moment(started_after)
        found = [container for container in found if moment(container.started_at) > after]
    for service in services:
        if not any(container.service == service for container in found):
            raise SecretsError(f"{service}: has no container" + (f" that was started after {started_after}" if started_after else ""))
    return found


def judge(container: Container, now: Container | None, watch: LogWatch) -> tuple[str, str]:
    """Return the status of a container and the line that says so."""
    verdict = watch.poll()
    if verdict.status != "failed" and (now is None or not now.running or now.restarting):
        verdict = watch.finish()
        if verdict.status != "failed":
            what = "restarting" if now and now.restarting else "exited"
            return what, f"exit code {now.exit_code}" if now else "removed"
    # Another start of the same container: what it logged before does not count.
    if verdict.status != "failed" and now and now.started_at != container.started_at:
        return "restarting", "it was started again meanwhile"
    return verdict.status, verdict.line


def verify(params: dict) -> dict:
    masker = Masker()
    docker = DockerCli(masker)
    project = Project.load(docker, *project_arguments(params))
    masker.add(*secret_values(params, project, params["mask_variables"]))
    success = patterns(params["success"], "success")
    failure = patterns([*DEFAULT_FAILURES, *params["failure"]], "failure")
    containers = chosen(project, params["services"], params["started_after"])
    began, ready, rows = time.monotonic(), {}, {}
    with contextlib.ExitStack() as stack:
        watches = {
            container.id: stack.enter_context(
                LogWatch(docker, container.id, success, failure, masker, since=container.started_at)
            )
            for container in containers
        }
        while True:
            states = {container.id: container for container in project.containers(params["services"])}
            seconds = time.monotonic() - began
            for container in containers:
                status, line = judge(container, states.get(container.id), watches[container.id])
                rows[container.id] = {"name": container.name, "service": container.service, "status": status, "line": line}
                if status == "matched":
                    ready.setdefault(container.id, seconds)
                rows[container.id]["seconds"] = round(ready.get(container.id, seconds), 2)
            result = {"containers": list(rows.values()), "seconds": round(seconds, 2)}
            bad = [row for row in rows.values() if row["status"] not in ("matched", "waiting")]
            if bad:
                said = f': "{bad[0]["line"]}"' if bad[0]["line"] else ""
                raise SecretsError(f"{bad[0]['name']} {bad[0]['status']}{said}", **result)
            if len(ready) == len(containers) and seconds >= max(ready.values()) + params["quiet"]:
                return result
            if len(ready) < len(containers) and seconds > params["timeout"]:
                late = next(row["name"] for row in rows.values() if row["status"] == "waiting")
                raise SecretsError(f"{late}: no line matched within {params['timeout']:g} s", **result)
            time.sleep(POLL)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **PROJECT_OPTIONS,
            "services": {"type": "list", "elements": "str", "required": True},
            "started_after": {"type": "str"},
            "success": {"type": "list", "elements": "str", "default": [r"Started \w*Application"]},
            "failure": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "float", "default": 120},
            "quiet": {"type": "float", "default": 1},
            "mask_variables": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **verify(module.params))
    except SecretsError as error:
        module.fail_json(msg=error.message, **error.details)


if __name__ == "__main__":
    main()
