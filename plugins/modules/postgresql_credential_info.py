#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_credential_info
short_description: See which PostgreSQL logins are accepted, and who is connected with which
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Tries logins over the containers' network, as consumers do, in every database that matters; never on the socket or
    on 127.0.0.1, where the official image lets in anybody.
  - Lists the sessions of clients by user and address, and waits on request until a user has none left.
  - Counts the refused logins in the server's own log.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.attributes.info_module
  - chat4all.secrets.lock
  - chat4all.secrets.postgresql
options:
  credentials:
    description:
      - The logins to try, each at most once when its password is refused.
      - Where the server's own socket asks for a password and neither its first user nor O(admin) gets in, the server is
        looked at as the first of these that is a superuser.
    type: list
    elements: dict
    default: []
    suboptions:
      label:
        description: By what the result calls it.
        type: str
        required: true
      user:
        description: The user's name.
        type: str
        required: true
      password:
        description: The user's password.
        type: str
        required: true
  idle_user:
    description:
      - Wait until no client has had a session as this user for O(idle_for) seconds, or until O(timeout).
      - The server is looked at four times a second, so a session that lives for less than that may be missed.
    type: str
  idle_for:
    description: Seconds without a session, for O(idle_user).
    type: float
    default: 2
  timeout:
    description: Seconds to wait for O(idle_user) at most.
    type: float
    default: 60
  refused_since:
    description: Count the refused logins since this time, in seconds since 1970 UTC by the clock of the container's
      host.
    type: float
  own_refusals:
    description:
      - How many logins of M(chat4all.secrets.postgresql_credential) with
        O(chat4all.secrets.postgresql_credential#module:state=absent) were refused since O(refused_since).
      - Only needed where the server's log does not show a client's address (C(%h) in C(log_line_prefix), or
        C(log_connections)); as many refused passwords are then taken for these.
    type: int
    default: 0
seealso:
  - module: chat4all.secrets.postgresql_credential
"""

EXAMPLES = r"""
- name: Does the new login work, and is the old user still in use?
  chat4all.secrets.postgresql_credential_info:
    container: chat4all-postgres
    host: postgres
    owner: chat4all
    credentials:
      - label: new
        user: chat4all_1
        password: "{{ new_password }}"
    idle_user: chat4all
  register: found
  failed_when: found.logins.new.status != 'accepted' or not found.idle
"""

RETURN = r"""
logins:
  description:
    - The outcome of each of O(credentials), by its label.
    - Only a refused password makes a V(rejected). Whatever else goes wrong proves nothing and is V(unknown), with its
      C(reason); so is a login that C(pg_hba.conf) lets in without asking for a password (V(trust)).
    - An accepted login has C(databases), with the C(current_user) and C(session_user) that it has in each.
  returned: success
  type: dict
  sample:
    new:
      status: accepted
      reason: ''
      databases:
        chat4all: {current_user: chat4all, session_user: chat4all_1}
sessions:
  description:
    - The sessions of clients, at the end of the wait, by user, address (V(null) is the server's own socket),
      application name and state.
    - Left out are the module's own (known by application name and address) and those of the server's first superuser on
      its own trusted socket or loopback, which need no password and stay possible after a revocation.
  returned: success
  type: list
  elements: dict
  sample:
    - {user: chat4all_1, address: 172.18.0.5, application: PostgreSQL JDBC Driver, state: idle, count: 10}
idle:
  description: Whether O(idle_user) was idle for O(idle_for) seconds; V(null) without O(idle_user).
  returned: success
  type: bool
databases:
  description: The databases that matter, as O(databases) says.
  returned: success
  type: list
  elements: str
  sample: [chat4all, postgres]
refused_logins:
  description:
    - How many logins of O(owner) and its members were refused since O(refused_since), for whatever reason, ours left
      out.
    - V(null) when not asked for, or when C(docker logs) does not show the server's log in English.
  returned: success
  type: int
  sample: 0
own_refused_logins:
  description: How many of our own logins were refused in that time; V(null) as above.
  returned: success
  type: int
  sample: 1
owner_superuser:
  description: Whether O(owner) is a superuser.
  returned: success
  type: bool
"""

from ansible_collections.chat4all.secrets.plugins.module_utils import postgresql
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql import Login
from ansible_collections.chat4all.secrets.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.chat4all.secrets.plugins.module_utils.state import LOCK_ARGUMENTS, module_lock


def work(params: dict) -> dict:
    labels = [given["label"] for given in params["credentials"]]
    for label in labels:
        if labels.count(label) > 1:
            raise SecretsError(f"credentials: label {label} is there twice; give each its own")
    credentials = {
        given["label"]: Login.given("credentials", given, password_required=True) for given in params["credentials"]
    }
    if params["idle_user"]:
        postgresql.check_name("idle_user", params["idle_user"])
    result = postgresql.info(
        postgresql.connected(params, credentials.values(), admins=credentials.values()),
        params["owner"],
        credentials,
        databases=params["databases"],
        idle_user=params["idle_user"],
        idle_for=params["idle_for"],
        timeout=params["timeout"],
        refused_since=params["refused_since"],
        own_refusals=params["own_refusals"],
    )
    return {"changed": False, **result}


def main() -> None:
    module = QuietModule(
        postgresql.without_passwords,
        argument_spec={
            **postgresql.ARGUMENTS,
            "credentials": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"label": {"type": "str", "required": True}, **postgresql.REQUIRED_LOGIN},
            },
            "idle_user": {"type": "str"},
            "idle_for": {"type": "float", "default": 2},
            "timeout": {"type": "float", "default": 60},
            "refused_since": {"type": "float"},
            "own_refusals": {"type": "int", "default": 0},
            **LOCK_ARGUMENTS,
        },
        supports_check_mode=True,
        **postgresql.WHERE,
    )
    try:
        with module_lock(module.params, module.check_mode):
            result = work(module.params)
        module.exit_json(**result)
    except SecretsError as error:
        module.fail_json(msg=postgresql.one_line(error.message))


if __name__ == "__main__":
    main()
