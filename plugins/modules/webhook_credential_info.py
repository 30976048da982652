#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: webhook_credential_info
short_description: See whether a platform can be asked about a webhook, and where it sends updates to
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Asks Telegram (C(getWebhookInfo)), WhatsApp's Cloud API (C(subscribed_apps)) or the Graph API (C(subscriptions)).
  - No platform tells which secret it has.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.attributes.info_module
  - chat4all.secrets.webhook
seealso:
  - module: chat4all.secrets.webhook_credential
"""

EXAMPLES = r"""
- name: Where do updates go?
  chat4all.secrets.webhook_credential_info:
    platform: telegram
    token: "{{ bot_token }}"
"""

RETURN = r"""
status:
  description: V(accepted) where the platform has a webhook, else V(unknown), with the C(reason).
  returned: success
  type: str
reason:
  description: Why not.
  returned: success
  type: str
url:
  description: Where updates are sent to.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms import webhooks


def main() -> None:
    module = AnsibleModule(argument_spec=webhooks.ARGUMENTS, required_if=webhooks.REQUIRED_IF, supports_check_mode=True)
    try:
        result = webhooks.look(module.params)
    except SecretsError as error:
        module.fail_json(msg=error.message)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
