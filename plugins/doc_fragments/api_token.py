# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  platform:
    description: Who issued the token.
    type: str
    choices: [instagram, telegram, whatsapp]
    required: true
  phone_number_id:
    description: The business phone number's id, which a token of WhatsApp must be allowed to read.
    type: str
  api:
    description:
      - Where the platform's API is, an C(https) address; the platform's own by default.
      - With a version where one is wanted, such as C(https://graph.facebook.com/v23.0).
    type: str
  ca:
    description: File on the target with certificates of further authorities, for an O(api) of one's own. TLS is verified always.
    type: path
  request_timeout:
    description: Seconds for a whole request, whatever the platform does meanwhile.
    type: float
    default: 20
notes:
  - Only the platform's own answer that it does not know the token makes a V(rejected). A platform that is slow, down, limits the
    rate of calls, or answers with something else proves nothing and is V(unknown).
  - Telegram's token is part of every URL of its API; no URL is ever shown.
  - Secrets reach a module safely only with pipelining on; otherwise Ansible writes a module's arguments to a temporary
    file on the host.
"""
