#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_pin
short_description: Keep a server's first-start variables apart from those its consumers use
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Images such as C(postgres) read C(POSTGRES_USER) and C(POSTGRES_PASSWORD) at their first start only. Where a Compose
    file shares these variables with the consumers, a new value makes the next C(docker compose up -d) recreate the
    I(database).
  - Writes a Compose override in which the server reads other variables. The Compose file itself is not touched; an
    existing override is merged, its comments and mode kept. Where several are there, it is the one that Compose reads.
  - The override is tried with Compose before it is written. Nothing is written where the server's configuration would
    still depend on the given variables, or where the override would not be read because the Compose files are named
    (O(compose_files), C(COMPOSE_FILE) in the env file, or C(-f) when the running containers were made) and it is not
    one of them.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.lock
  - chat4all.secrets.project
attributes:
  check_mode:
    support: full
    details:
      - Refuses whatever the run would refuse, also before the new variables are in the env file.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  service:
    description: The server's Compose service.
    type: str
    required: true
  variables:
    description: For each variable that the consumers use, the name of the one that keeps the server's first value.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Let the database read its own copies
  chat4all.secrets.compose_pin:
    project_dir: /srv/chat4all
    service: postgres
    variables:
      POSTGRES_USER: INIT_POSTGRES_USER
      POSTGRES_PASSWORD: INIT_POSTGRES_PASSWORD
"""

RETURN = r"""
path:
  description: The override file; empty where none would be read.
  returned: success
  type: str
"""

import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils import first_start
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write, check_plain_file
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import PROJECT_OPTIONS, project_arguments
from ansible_collections.chat4all.secrets.plugins.module_utils.state import LOCK_ARGUMENTS, module_lock


def pin(params: dict, check_mode: bool) -> dict:
    project = Project.load(DockerCli(), *project_arguments(params))
    service = params["service"]
    if service not in project.services:
        there = ", ".join(sorted(project.services))
        raise SecretsError(f"{service}: no such service in {project.directory}; there are {there}")
    with module_lock(params, check_mode):
        pinned = first_start.pinned_override(project, service, params["variables"])
        if pinned and not check_mode:
            path, text = pinned
            there = check_plain_file(path)
            atomic_write(path, text.encode(), mode=stat.S_IMODE(there.st_mode) if there else 0o644)
    return {"changed": bool(pinned), "path": project.override or ""}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **PROJECT_OPTIONS,
            "service": {"type": "str", "required": True},
            "variables": {"type": "dict", "required": True},
            **LOCK_ARGUMENTS,
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**pin(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
