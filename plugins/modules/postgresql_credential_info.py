#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_credential_info
short_description: Tell which PostgreSQL logins work, and who uses which
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Tries logins over the containers' network, one attempt each, and lists the server's sessions by user and address.
  - Only an authentication failure proves a password wrong; a server that cannot be reached proves nothing.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.attributes.info_module
  - chat4all.secrets.postgresql
options:
  credentials:
    description: The logins to try.
    type: list
    elements: dict
    default: []
    suboptions:
      label:
        description: The name of the login in RV(logins).
        type: str
        required: true
      user:
        description: The user's name.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
  databases:
    description: The databases to log in to; all that the owner may connect to, by default.
    type: list
    elements: str
    default: []
  idle_user:
    description: Wait until this user has no session.
    type: str
  idle_for:
    description: Seconds for which O(idle_user) must have had no session.
    type: float
    default: 2
  timeout:
    description: Seconds to wait for O(idle_user) at most.
    type: float
    default: 60
  refused_since:
    description: Count the logins that the server refused since this time (seconds of the epoch).
    type: int
  probes:
    description: How many refused logins since O(refused_since) were tried on purpose; they are not counted.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Does the stored password work, and who is connected?
  chat4all.secrets.postgresql_credential_info:
    container: chat4all-postgres-1
    host: postgres
    owner: chat4all
    credentials:
      - label: current
        user: chat4all_1
        password: "{{ vaulted_password }}"
  no_log: true
  register: database
"""

RETURN = r"""
logins:
  description: >-
    For each label C(status) (V(accepted), V(rejected) or V(unknown)), C(reason), and C(databases) with C(current_user) and
    C(session_user).
  returned: success
  type: dict
sessions:
  description: The clients' sessions with C(user), C(address), C(application), C(state) and C(count); those of this module left out.
  returned: success
  type: list
  elements: dict
refused_logins:
  description: The number of refused logins; V(null) where the server's log does not go to its container's output.
  returned: when O(refused_since) is given
  type: int
server_version:
  description: The server's version.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql import Credentials, Login, Server


def look(params: dict) -> dict:
    logins = {given["label"]: Login(given["user"], given["password"]) for given in params["credentials"]}
    masker = Masker(login.password for login in logins.values())
    server = Server(DockerCli(masker), params["container"], params["host"], params["port"])
    credentials = Credentials(server, params["owner"])
    if params["idle_user"]:
        credentials.wait_idle(params["idle_user"], params["idle_for"], params["timeout"])
    facts = credentials.facts(*[login.user for login in logins.values()])
    result = {
        "logins": credentials.log_in(logins, facts, params["databases"]),
        "sessions": facts["sessions"],
        "server_version": facts["server_version"],
    }
    if params["refused_since"] is not None:
        result["refused_logins"] = credentials.refused_logins(params["refused_since"], params["probes"])
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "container": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
            "owner": {"type": "str", "required": True},
            "credentials": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "label": {"type": "str", "required": True},
                    "user": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                },
            },
            "databases": {"type": "list", "elements": "str", "default": []},
            "idle_user": {"type": "str"},
            "idle_for": {"type": "float", "default": 2},
            "timeout": {"type": "float", "default": 60},
            "refused_since": {"type": "int"},
            "probes": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **look(module.params))
    except SecretsError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
