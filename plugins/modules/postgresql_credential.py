#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_credential
short_description: Make a PostgreSQL server in a container accept a login beside the current one, or revoke it
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - PostgreSQL holds one password per role, so a password that is changed in place refuses every client that still has
    the old one. Here two logins alternate instead. Both are members of O(owner) and begin every session as it (C(ALTER
    ROLE ... SET role)), so that C(current_user), ownership and privileges never change; only C(session_user) does.
  - With O(state=present) the idle one of the two gets a password. What belongs to a login and does not follow C(SET
    ROLE) is copied from O(owner) each time, that is its settings (everywhere and per database), its connection limit,
    its C(VALID UNTIL) and C(REPLICATION), and what a setting no longer is on O(owner) is taken from the login.
    Memberships of O(owner) need no copy, since its members have them too. The right to connect is granted where
    O(owner) can connect and the login could not.
  - With O(state=absent) a login loses its password and its sessions are ended. Then a login with the old password is
    tried over the network and must be refused, for its password or by C(pg_hba.conf). Last the role becomes C(NOLOGIN),
    save for the server's first superuser, which must still be able to use the server's own trusted socket. A role that
    does not exist is revoked as it is.
  - The server gets a SCRAM-SHA-256 verifier made by the module, never a password, by standard input, and in a session
    whose statements it does not log (C(log_statement) and its kin, C(pg_stat_statements), C(pgaudit),
    C(pg_stat_activity)).
  - Nobody's ownership is changed. Where O(owner) is a superuser, as the first user of the official image is, its logins
    have a superuser's rights after C(SET ROLE) as well; RV(owner_superuser) says so.
notes:
  - A role that exists already counts as an alternating login when it is a member of O(owner) and its setting C(role) is
    O(owner). Any other role of that name is refused and left as it is. Roles that the module makes also say so in their
    comment.
  - Row-level security or an audit that looks at C(session_user) sees the alternating names.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.lock
  - chat4all.secrets.postgresql
attributes:
  check_mode:
    support: full
    details:
      - Everything is looked at, and refused where it would be; no login is tried.
      - For a value that is yet to be generated any other password does; sessions of O(credential) are then refused as
        they would be under it.
  diff_mode:
    support: full
    details:
      - Names what would change, never a value.
  idempotent:
    support: full
    details:
      - Whether the password is set already is found out with the server's verifier.
      - With O(state=absent) a login that is revoked already is still tried, to see it refused.
options:
  state:
    description:
      - V(present) makes the server accept O(credential).
      - V(absent) revokes it.
    type: str
    choices: [present, absent]
    default: present
  strategy:
    description:
      - V(pair) sets the password of the idle login and never touches O(current).
      - V(single_user) changes the password of the one user in place. Its clients are refused until they have the new
        one, and the old password is dead at once, so that there is nothing to revoke.
    type: str
    choices: [pair, single_user]
    default: pair
  credential:
    description: The login to accept or to revoke.
    type: dict
    required: true
    suboptions:
      user:
        description: Its name, at most 63 bytes.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
  current:
    description:
      - The login that is in use and must stay so. Required with O(strategy=pair).
      - It is O(owner) itself, or an alternating login.
      - One that does not exist, as on a server restored from an old copy, does not hinder V(present); V(absent) refuses.
    type: dict
    suboptions:
      user:
        description: Its name.
        type: str
        required: true
      password:
        description: Its password. When given, nothing is revoked unless the server holds this password for it.
        type: str
  refused_since:
    description: As with M(chat4all.secrets.postgresql_credential_info); for O(state=absent).
    type: float
  own_refusals:
    description: As with M(chat4all.secrets.postgresql_credential_info); the login that this module tries comes on top.
    type: int
    default: 0
  admin_login:
    description:
      - A superuser login of its own, which is made with O(state=present) and tried over the network.
      - Required before the server's first superuser is revoked; it must get in over the network right then.
      - A superuser of that name that is there already must have this password or have been made by this module.
    type: dict
    suboptions:
      user:
        description: Its name; no login of the application.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
  iterations:
    description: The iterations of the SCRAM verifier. More make guessing, and every login, slower.
    type: int
    default: 4096
seealso:
  - module: chat4all.secrets.postgresql_credential_info
  - module: chat4all.secrets.password
"""

EXAMPLES = r"""
- name: Have the server accept a second login, which works as chat4all
  chat4all.secrets.postgresql_credential:
    container: chat4all-postgres
    host: postgres
    owner: chat4all
    current:
      user: chat4all
    credential:
      user: chat4all_1
      password: "{{ new_password }}"
    admin_login:
      user: chat4all_admin
      password: "{{ admin_password }}"

- name: Revoke the first one
  chat4all.secrets.postgresql_credential:
    state: absent
    container: chat4all-postgres
    host: postgres
    owner: chat4all
    current:
      user: chat4all_1
      password: "{{ new_password }}"
    credential:
      user: chat4all
      password: "{{ old_password }}"
    admin_login:
      user: chat4all_admin
      password: "{{ admin_password }}"
"""

RETURN = r"""
user:
  description: The login.
  returned: success
  type: str
  sample: chat4all_1
actions:
  description: What changed, or would in check mode, without values.
  returned: success
  type: list
  elements: str
  sample: [role, membership in chat4all, setting role]
databases:
  description: The databases that matter, as O(databases) says.
  returned: O(state=present)
  type: list
  elements: str
  sample: [chat4all, postgres]
login:
  description:
    - The outcome of one login with O(credential) over the network afterwards, as M(chat4all.secrets.postgresql_credential_info)
      returns it; empty in check mode.
    - A login that is not accepted is no failure of the module; look at C(status).
  returned: O(state=present)
  type: dict
  sample:
    status: accepted
    reason: ''
    databases:
      chat4all: {current_user: chat4all, session_user: chat4all_1}
owner_superuser:
  description: Whether O(owner), and so each of its logins, has a superuser's rights.
  returned: O(state=present)
  type: bool
refused_logins:
  description: As M(chat4all.secrets.postgresql_credential_info) returns it.
  returned: O(state=absent) and O(refused_since)
  type: int
ended_sessions:
  description: How many sessions of the login were ended.
  returned: O(state=absent)
  type: int
refused:
  description:
    - How the server refused the login over the network, or that its role does not exist; empty in check mode.
    - Only C(password authentication failed) tells that the password was looked at; C(pg_hba.conf) refuses before that.
  returned: O(state=absent)
  type: str
  sample: 'FATAL:  password authentication failed for user "chat4all"'
owner_password:
  description:
    - Whether O(owner) has a password, though it is neither O(credential) nor O(current).
    - Somebody has set it, or the server was restored from a copy of before its logins alternated.
  returned: O(state=absent)
  type: bool
"""

from ansible_collections.chat4all.secrets.plugins.module_utils import postgresql
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql import Credential, Login
from ansible_collections.chat4all.secrets.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.chat4all.secrets.plugins.module_utils.state import LOCK_ARGUMENTS, module_lock


def work(params: dict, check_mode: bool) -> dict:
    credential, admin_login = (
        Login.given(name, params[name], password_required=True) for name in ("credential", "admin_login")
    )
    current = Login.given("current", params["current"])
    if params["iterations"] < 1:
        raise SecretsError(f"iterations: {params['iterations']} is too few; PostgreSQL's own number is 4096")
    single_user = params["strategy"] == "single_user"
    if params["state"] == "absent" and single_user:
        raise SecretsError(
            "state: absent means nothing with strategy: single_user, whose old password is dead once the new one is "
            "set; "
            "use state: present with the new one"
        )
    with module_lock(params, check_mode):
        # Where the socket asks for a password and there is no administrator yet, the application's own login is the
        # first superuser's; one that is changed in place has the new password already where a run was interrupted.
        own = [current, credential] if single_user else [current]
        server = postgresql.connected(
            params, [credential, admin_login], [login for login in own if login and login.password]
        )
        login = Credential(
            server,
            params["owner"],
            credential,
            current,
            admin_login,
            databases=params["databases"],
            iterations=params["iterations"],
            check_mode=check_mode,
        )
        if params["state"] == "absent":
            result = login.absent()
            if params["refused_since"] is not None:
                ours = params["own_refusals"] + ("password authentication failed" in result["refused"])
                result["refused_logins"] = login.refused_logins(params["refused_since"], ours)
            return result
        return login.present_single_user() if single_user else login.present_pair()


def main() -> None:
    module = QuietModule(
        postgresql.without_passwords,
        argument_spec={
            **postgresql.ARGUMENTS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "strategy": {"type": "str", "choices": ["pair", "single_user"], "default": "pair"},
            "credential": {"type": "dict", "required": True, "options": postgresql.REQUIRED_LOGIN},
            "current": {"type": "dict", "options": postgresql.LOGIN},
            "admin_login": {"type": "dict", "options": postgresql.REQUIRED_LOGIN},
            "iterations": {"type": "int", "default": 4096},
            "refused_since": {"type": "float"},
            "own_refusals": {"type": "int", "default": 0},
            **LOCK_ARGUMENTS,
        },
        required_if=[("strategy", "pair", ["current"])],
        supports_check_mode=True,
        **postgresql.WHERE,
    )
    try:
        result = work(module.params, module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=postgresql.one_line(error.message))
    if module._diff:
        result["diff"] = {"before": "", "after": "".join(f"{action}\n" for action in result["actions"])}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
