#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: api_token_credential_info
short_description: See which API tokens a platform accepts, and whose they are
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Makes one harmless call with each token. That is C(getMe) and C(getWebhookInfo) at Telegram, the phone number at WhatsApp's
    Cloud API, and C(me) at Instagram.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.attributes.info_module
  - chat4all.secrets.api_token
options:
  credentials:
    description: The tokens to try, each once.
    type: list
    elements: dict
    required: true
    suboptions:
      label:
        description: By what the result calls it.
        type: str
        required: true
      password:
        description: The token.
        type: str
        required: true
seealso:
  - module: chat4all.secrets.api_token_credential
"""

EXAMPLES = r"""
- name: Does the new bot token work?
  chat4all.secrets.api_token_credential_info:
    platform: telegram
    credentials:
      - label: new
        password: "{{ new_token }}"
  register: found
  failed_when: found.logins.new.status != 'accepted'
"""

RETURN = r"""
logins:
  description:
    - The outcome of each of O(credentials), by its label. That is C(status) (V(accepted), V(rejected) or V(unknown)) and C(reason).
    - An accepted token has C(account), with C(id) and C(name) of whom it belongs to; at Telegram also C(webhook), whether
      updates come to a webhook.
  returned: success
  type: dict
  sample:
    new:
      status: accepted
      reason: ''
      account: {id: '123456', name: '@chat4all_bot'}
      webhook: true
"""

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms import tokens
from ansible_collections.chat4all.secrets.plugins.module_utils.quiet_module import QuietModule


def work(params: dict) -> dict:
    labels = [given["label"] for given in params["credentials"]]
    for label in labels:
        if labels.count(label) > 1:
            raise SecretsError(f"credentials: label {label} is there twice; give each its own")
    connection = tokens.connection(params)
    logins = {
        given["label"]: tokens.look(params["platform"], connection, given["password"], params)
        for given in params["credentials"]
    }
    return {"changed": False, "logins": logins}


def main() -> None:
    module = QuietModule(
        tokens.without_tokens,
        argument_spec={
            **tokens.ARGUMENTS,
            "credentials": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "label": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                },
            },
        },
        required_if=tokens.REQUIRED_IF,
        supports_check_mode=True,
    )
    try:
        result = work(module.params)
    except SecretsError as error:
        module.fail_json(msg=error.message)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
