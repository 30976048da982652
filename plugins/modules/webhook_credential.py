#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: webhook_credential
short_description: Have a platform use another secret for a webhook
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - At Telegram (C(setWebhook)) it is what is sent with each update; where updates go to and the number of connections stay.
    Shortly after, the module fails if the webhook has refused an update meanwhile.
  - At WhatsApp (C(subscribed_apps)) and Instagram (C(subscriptions)) it is the verify token, which the platform tries at once; it
    refuses where the webhook does not know it.
  - Have the webhook accept both secrets first.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.webhook
  - chat4all.secrets.lock
attributes:
  check_mode:
    support: full
    details:
      - The platform is asked where updates are sent to.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - No platform tells which secret it has, so that it is told each time.
options:
  credential:
    description: The secret.
    type: dict
    required: true
    suboptions:
      password:
        description: The secret itself.
        type: str
        required: true
  settle:
    description: Seconds after which Telegram is asked whether an update was refused.
    type: float
    default: 2
seealso:
  - module: chat4all.secrets.webhook_credential_info
"""

EXAMPLES = r"""
- name: Have Telegram send another secret
  chat4all.secrets.webhook_credential:
    platform: telegram
    token: "{{ bot_token }}"
    credential:
      password: "{{ new_secret }}"
"""

RETURN = r"""
refused:
  description: Whether the webhook has refused what the platform sent with the new secret, which the platform goes on with.
  returned: failure of a call
  type: bool
"""

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms import webhooks
from ansible_collections.chat4all.secrets.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.chat4all.secrets.plugins.module_utils.state import LOCK_ARGUMENTS, module_lock


def work(params: dict, check_mode: bool) -> dict:
    if check_mode:
        found = webhooks.look(params)
        if found["status"] != "accepted":
            raise SecretsError(found["reason"])
    else:
        with module_lock(params, check_mode):
            webhooks.tell(params, params["credential"]["password"], params["settle"])
    return {"changed": True}


def main() -> None:
    module = QuietModule(
        lambda params: {key: value for key, value in params.items() if key not in ("credential", "token")},
        argument_spec={
            **webhooks.ARGUMENTS,
            "credential": {
                "type": "dict",
                "required": True,
                "no_log": False,
                "options": {"password": {"type": "str", "required": True, "no_log": True}},
            },
            "settle": {"type": "float", "default": 2},
            **LOCK_ARGUMENTS,
        },
        required_if=webhooks.REQUIRED_IF,
        supports_check_mode=True,
    )
    try:
        result = work(module.params, module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=error.message, **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
