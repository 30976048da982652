#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: adopt
short_description: Take one step of adopting a deployment that already runs
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - C(look) prints what is there and drafts the catalog, C(write) writes the draft beside the inventory, C(wrap) what AWX
    needs to run the playbooks, and C(store) imports the values in use from C(.env) into the store. The role
    P(chat4all.secrets.adopt#role) calls the steps in their order.
  - C(accept) takes over what somebody has changed by hand, C(reseal) begins a new store where nobody can open the old one;
    each value is tried at its server first.
  - Nothing that runs is changed, and neither is any file of the deployment. A catalog, a value or a file that is there
    already is left alone.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.deployment
attributes:
  action:
    description: Runs on the controller, and calls modules on the target.
    support: full
  check_mode:
    support: full
  idempotent:
    support: full
  diff_mode:
    support: none
options:
  step:
    description: The step.
    type: str
    required: true
    choices: [look, write, wrap, reseal, store, accept]
  accept:
    description: With O(step=accept), the credentials that somebody has changed by hand.
    type: list
    elements: str
    default: []
  draft:
    description: What O(step=look) returned as RV(draft).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Say what is there
  chat4all.secrets.adopt:
    step: look
    project_dir: /srv/chat4all
    catalog: {}
"""

RETURN = r"""
catalog:
  description: The catalog that is there, or else the draft's entries.
  returned: O(step=look)
  type: dict
draft:
  description: The text of the draft; empty where a catalog is there.
  returned: O(step=look)
  type: str
"""
