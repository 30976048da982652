#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: api_token_credential
short_description: Have a platform renew an API token, or end one and see it refused
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - With O(state=present) Instagram renews a long-lived token that is a day old at least. The new one is valid beside it. Other
    platforms have no such call; a person brings their tokens.
  - With O(state=absent) the token is tried and has to be refused. WhatsApp ends it by a call where O(app_id), O(app_secret) and
    O(access_token) are given; every other one a person ends.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.api_token
  - chat4all.secrets.lock
attributes:
  check_mode:
    support: full
    details:
      - Nothing is renewed or ended; the token is tried.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each renewal makes another token.
options:
  state:
    description:
      - V(present) renews the token.
      - V(absent) sees it refused; with O(app_id) it is ended first where it is still accepted.
    type: str
    choices: [present, absent]
    default: present
  credential:
    description: The token.
    type: dict
    required: true
    suboptions:
      password:
        description: The token itself.
        type: str
        required: true
  seal_key:
    description: 32 random bytes in hexadecimal digits, used once, with which RV(sealed) is readable. Required to renew.
    type: str
  app_id:
    description: The id of the app of Meta's that the token of WhatsApp was issued for.
    type: str
  app_secret:
    description: That app's secret.
    type: str
  access_token:
    description: Another token, with which the call is made that ends O(credential).
    type: str
seealso:
  - module: chat4all.secrets.api_token_credential_info
"""

EXAMPLES = r"""
- name: See that the old bot token is dead
  chat4all.secrets.api_token_credential:
    state: absent
    platform: telegram
    credential:
      password: "{{ old_token }}"

- name: End an old token of WhatsApp
  chat4all.secrets.api_token_credential:
    state: absent
    platform: whatsapp
    phone_number_id: "106540352242922"
    credential:
      password: "{{ old_token }}"
    app_id: "1234567890"
    app_secret: "{{ app_secret }}"
    access_token: "{{ new_token }}"
"""

RETURN = r"""
sealed:
  description: The new token, sealed with O(seal_key).
  returned: O(state=present), outside check mode
  type: str
expires_in:
  description: For how many seconds the new token is valid.
  returned: O(state=present), outside check mode
  type: int
  sample: 5183944
login:
  description: The outcome of a call with O(credential), as M(chat4all.secrets.api_token_credential_info) returns it.
  returned: O(state=absent), or in check mode
  type: dict
"""

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms import graph, tokens
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.http import Unclear
from ansible_collections.chat4all.secrets.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import seal
from ansible_collections.chat4all.secrets.plugins.module_utils.state import LOCK_ARGUMENTS, module_lock


def work(params: dict, check_mode: bool) -> dict:
    platform, token = params["platform"], params["credential"]["password"]
    title, connection = tokens.PLATFORMS[platform].title, tokens.connection(params)
    if params["state"] == "present" and not tokens.PLATFORMS[platform].renews:
        raise SecretsError(f"{title} renews no token by its API; have a new one issued, and bring it")
    if params["app_id"] and not tokens.PLATFORMS[platform].ends_by_app:
        raise SecretsError(f"app_id: {title} ends no token by its API; leave it out")
    if params["state"] == "present":
        if check_mode:
            return {"changed": True, "login": tokens.look(platform, connection, token, params)}
        return {"changed": True, **renewed(params, connection, token)}
    login = tokens.look(platform, connection, token, params)
    ends = bool(params["app_id"]) and login["status"] == "accepted"
    if ends and check_mode:
        return {"changed": True, "login": login}
    if ends:
        end(params, connection, token)
        login = tokens.look(platform, connection, token, params)
    if login["status"] != "rejected":
        found = f"{title} still accepts the token" if login["status"] == "accepted" else login["reason"]
        raise SecretsError(f"{found}; {tokens.PLATFORMS[platform].ending}")
    return {"changed": ends, "login": login}


def end(params: dict, connection: tokens.Connection, token: str) -> None:
    app = [params[name] for name in ("app_id", "app_secret", "access_token")]
    with module_lock(params, check_mode=False):
        try:
            graph.end(connection, token, *app)
        except Unclear as error:
            raise SecretsError(f"{tokens.PLATFORMS[params['platform']].title} {error.reason}") from None


def renewed(params: dict, connection: tokens.Connection, token: str) -> dict:
    if not params["seal_key"]:
        raise SecretsError("seal_key: is needed, since nobody but the caller may see the new token")
    with module_lock(params, check_mode=False):
        try:
            new, valid = graph.refreshed(connection, token)
        except Unclear as error:
            raise SecretsError(f"{tokens.PLATFORMS[params['platform']].title} {error.reason}") from None
    return {"sealed": seal(bytes.fromhex(params["seal_key"]), new.encode()), "expires_in": valid}


def main() -> None:
    module = QuietModule(
        tokens.without_tokens,
        argument_spec={
            **tokens.ARGUMENTS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "credential": {
                "type": "dict",
                "required": True,
                "no_log": False,
                "options": {"password": {"type": "str", "required": True, "no_log": True}},
            },
            "seal_key": {"type": "str", "no_log": True},
            "app_id": {"type": "str"},
            "app_secret": {"type": "str", "no_log": True},
            "access_token": {"type": "str", "no_log": True},
            **LOCK_ARGUMENTS,
        },
        required_if=tokens.REQUIRED_IF,
        required_together=[("app_id", "app_secret", "access_token")],
        supports_check_mode=True,
    )
    try:
        result = work(module.params, module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=error.message)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
