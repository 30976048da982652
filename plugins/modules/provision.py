#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: provision
short_description: Take one step of provisioning a deployment's secrets
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - C(store) imports the values in use from C(.env) and generates those that are missing; C(render) writes C(.env),
    C(.env.example) and the C(.gitignore) lines; C(separate) keeps a server's first-start values apart from its
    consumers'. The role P(chat4all.secrets.provision#role) calls the steps in their order.
  - A value that the store has is never replaced unless O(drift=accept) asks for it, and none is generated for a server
    that has data already.
  - While a rotation is unfinished, the slot that is published stays published.
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
    support: full
    details:
      - The difference names keys and never shows values.
options:
  step:
    description: The step.
    type: str
    required: true
    choices: [store, render, separate]
  info:
    description: What O(step=store) returned as RV(info).
    type: dict
    default: {}
  drift:
    description:
      - What to do where C(.env) holds another value than the store.
      - V(replace) puts the store's value back, unless the server rejects it. V(accept) takes C(.env)'s value over, when
        the server accepts it; also where the store is an older copy and no newer one exists.
    type: str
    choices: [refuse, replace, accept]
    default: refuse
"""

EXAMPLES = r"""
- name: Import what is in use, generate what is missing
  chat4all.secrets.provision:
    step: store
    project_dir: /srv/chat4all
    catalog:
      postgres: {}
  register: store
"""

RETURN = r"""
info:
  description: What M(chat4all.secrets.catalog_info) says of the catalog.
  returned: O(step=store)
  type: dict
"""
