#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_credential
short_description: Make a PostgreSQL login valid beside the current one, or end it
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - With O(strategy=pair) two logins alternate, and each of them works as O(owner) (C(ALTER ROLE ... SET role)), so that ownership and
    grants never change hands. The owner's settings, connection limit, expiry and right to connect are copied to the login.
  - With O(strategy=single_user) the password of the one user is changed in place. From then on new connections with the old password
    are refused.
  - Passwords reach the server as SCRAM-SHA-256 verifiers that are made here, by standard input, with statement logging off.
  - O(state=absent) takes the password away, ends the sessions and checks that a login over the network is refused because of the
    password. The login becomes C(NOLOGIN), but for the first superuser of an image, whose trusted local socket has to keep working.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.postgresql
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - The password is compared with the verifier that the server holds.
options:
  state:
    description: Whether the credential shall be valid or ended.
    type: str
    choices: [present, absent]
    default: present
  strategy:
    description: How a new value is made valid.
    type: str
    choices: [pair, single_user]
    default: pair
  credential:
    description: The login that shall be valid, or ended; with the password that shall log in, or be refused.
    type: dict
    required: true
    suboptions:
      user:
        description: The user's name.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
  current:
    description: The login in use, which is never altered with O(strategy=pair).
    type: dict
    suboptions:
      user:
        description: The user's name.
        type: str
        required: true
      password:
        description: Its password.
        type: str
  admin_login:
    description:
      - A superuser of its own, made and tried before the password of an image's first superuser goes.
    type: dict
    suboptions:
      user:
        description: The user's name.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
  iterations:
    description: Iterations of the SCRAM verifier.
    type: int
    default: 4096
  state_dir:
    description: The deployment's state folder, whose lock is held while the module works.
    type: path
"""

EXAMPLES = r"""
- name: Let chat4all_1 log in beside chat4all
  chat4all.secrets.postgresql_credential:
    container: chat4all-postgres-1
    host: postgres
    owner: chat4all
    current:
      user: chat4all
    credential:
      user: chat4all_1
      password: "{{ vaulted_new_password }}"
    admin_login:
      user: chat4all_admin
      password: "{{ vaulted_admin_password }}"
  no_log: true

- name: End chat4all's password
  chat4all.secrets.postgresql_credential:
    state: absent
    container: chat4all-postgres-1
    host: postgres
    owner: chat4all
    current:
      user: chat4all_1
    credential:
      user: chat4all
      password: "{{ vaulted_old_password }}"
    admin_login:
      user: chat4all_admin
      password: "{{ vaulted_admin_password }}"
  no_log: true
"""

RETURN = r"""
user:
  description: The user that was set.
  returned: O(state=present)
  type: str
refused:
  description: Whether a login with the old password was tried and refused.
  returned: O(state=absent)
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql import Credentials, Login, Server
from ansible_collections.chat4all.secrets.plugins.module_utils.state import kernel_lock


def carry_out(params: dict, check_mode: bool) -> dict:
    login = Login(**params["credential"])
    admin = Login(**params["admin_login"]) if params["admin_login"] else None
    masker = Masker([login.password, admin.password if admin else None])
    server = Server(DockerCli(masker), params["container"], params["host"], params["port"])
    credentials = Credentials(server, params["owner"])
    current = (params["current"] or {}).get("user") or params["owner"]
    with kernel_lock(None if check_mode else params["state_dir"]):
        if params["state"] == "absent":
            if params["strategy"] == "single_user":
                raise SecretsError("state=absent with strategy=single_user: the only login cannot be ended")
            return credentials.revoke(login, current, admin, check_mode)
        if params["strategy"] == "single_user":
            return credentials.set_password(login, params["iterations"], check_mode)
        return credentials.make_pair(login, current, admin, params["iterations"], check_mode)


def main() -> None:
    user = {"type": "str", "required": True}
    password = {"type": "str", "required": True, "no_log": True}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "strategy": {"type": "str", "choices": ["pair", "single_user"], "default": "pair"},
            "container": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
            "owner": {"type": "str", "required": True},
            "credential": {"type": "dict", "required": True, "options": {"user": user, "password": password}},
            "current": {"type": "dict", "options": {"user": user, "password": {"type": "str", "no_log": True}}},
            "admin_login": {"type": "dict", "options": {"user": user, "password": password}},
            "iterations": {"type": "int", "default": 4096},
            "state_dir": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**carry_out(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
