#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: status
short_description: Show the state of every credential of a deployment
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Compares store, C(.env), server and containers, and prints a table.
  - Fails when a credential needs somebody, because it is overdue, unfinished or has drifted.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.attributes.info_module
  - chat4all.secrets.deployment
attributes:
  action:
    description: Runs on the controller, and calls modules on the target.
    support: full
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Show the state of every credential
  chat4all.secrets.status:
    project_dir: /srv/chat4all
    catalog:
      postgres: {}
"""

RETURN = r"""
credentials:
  description: The rows of the table.
  returned: success
  type: list
  elements: dict
"""
