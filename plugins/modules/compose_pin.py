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
  - Writes a Compose override in which the server reads other variables, and checks that its configuration does not
    depend on the given variables any more. The Compose file itself is not touched; an existing override is merged, its
    comments kept.
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
  service:
    description: The server's Compose service.
    type: str
    required: true
  variables:
    description: For each variable that the consumers use, the name of the one that keeps the server's first value.
    type: dict
    required: true
  state_dir:
    description: The deployment's state folder, whose lock is held while the module works.
    type: path
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
  description: The override file.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils import first_start
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import PROJECT_OPTIONS, project_arguments
from ansible_collections.chat4all.secrets.plugins.module_utils.state import kernel_lock


def pin(params: dict, check_mode: bool) -> dict:
    docker = DockerCli()
    project = Project.load(docker, *project_arguments(params))
    service, variables = params["service"], params["variables"]
    path = first_start.override_path(project)
    depends = [name for name, users in project.consumers(variables).items() if service in users]
    if not depends:
        return {"changed": False, "path": path}
    if params["compose_files"]:
        raise SecretsError(
            f"{service}: its first-start variables are shared with its consumers; with secrets_compose_files an "
            "override "
            f"would not be read, so write {', '.join('${' + variables[name] + '}' for name in depends)} for "
            f"{service} yourself"
        )
    text = first_start.merged(path, service, first_start.override_for(project, service, variables))
    if check_mode:
        return {"changed": True, "path": path}
    with kernel_lock(params["state_dir"]):
        atomic_write(path, text.encode(), mode=0o644)
    project = Project.load(docker, *project_arguments(params))
    left = [name for name, users in project.consumers(variables).items() if service in users]
    if left:
        raise SecretsError(
            f"{service}: still depends on {', '.join(left)} beside {path}; write ${{{variables[left[0]]}}} there by "
            "hand"
        )
    return {"changed": True, "path": path}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **PROJECT_OPTIONS,
            "service": {"type": "str", "required": True},
            "variables": {"type": "dict", "required": True},
            "state_dir": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**pin(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
