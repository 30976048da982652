#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_queue
short_description: Put credentials into the order in which they are rotated
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - An unfinished rotation comes first, so that the command that was interrupted also finishes what it had begun; its
    services may be half-way, and keep another rotation from beginning.
  - A name that is not in O(catalog) is refused before the first rotation.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.attributes.info_module
  - chat4all.secrets.deployment
attributes:
  action:
    description: Runs on the controller, and reads the store, on the target where it is kept there.
    support: full
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  credentials:
    description: The names of the credentials.
    type: list
    elements: str
    required: true
  kind:
    description:
      - Leave out the credentials of any other kind. That is V(db) (those with a database server), V(jwt), V(manual), V(webhook),
        or V(token), of which those without a new token are left out, too.
    type: str
  skip_services:
    description: Consumers that keep what they have. Refused, before anything is done, where one of the credentials is a JWT
      signing key.
    type: list
    elements: str
    default: []
  jwt:
    description:
      - What is asked of a JWT signing key. Refused, before anything is done, where one of the credentials is none.
    type: dict
    default: {}
    suboptions:
      phase:
        description: The phase to carry out now.
        type: str
        choices: ["", introduce, promote, retire]
        default: ""
      emergency:
        description: The key is compromised. Refused unless exactly one credential is left to be rotated.
        type: bool
        default: false
      accept_invalid_tokens:
        description: With O(jwt.phase), carry it out although live tokens become invalid.
        type: bool
        default: false
"""

EXAMPLES = r"""
- name: Queue | what is unfinished comes first
  chat4all.secrets.rotation_queue:
    credentials: [postgres, reporting]
    project_dir: /srv/chat4all
    catalog:
      postgres: {}
      reporting: {}
  register: queue
"""

RETURN = r"""
credentials:
  description: The names, in the order in which they are rotated.
  returned: success
  type: list
  elements: str
  sample: [reporting, postgres]
"""
