# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  platform:
    description: Who sends the updates.
    type: str
    choices: [instagram, telegram, whatsapp]
    required: true
  token:
    description: The token that the call is made with. At Telegram that of the bot, at WhatsApp an API token, at Instagram the app's
      secret.
    type: str
    required: true
  account_id:
    description: The WhatsApp business account's id.
    type: str
  app_id:
    description: The app's id, for Instagram.
    type: str
  callback:
    description:
      - Where updates are sent to, for WhatsApp and Instagram; what the platform has by default.
      - For WhatsApp this makes an address of the business account's own, before the app's.
    type: str
  api:
    description: Where the platform's API is, an C(https) address; the platform's own by default.
    type: str
  ca:
    description: File on the target with certificates of further authorities, for an O(api) of one's own. TLS is verified always.
    type: path
  request_timeout:
    description: Seconds for a whole request, whatever the platform does meanwhile.
    type: float
    default: 20
notes:
  - Secrets reach a module safely only with pipelining on; otherwise Ansible writes a module's arguments to a temporary
    file on the host.
"""
