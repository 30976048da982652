# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  container:
    description: Name or id of the container in which the server runs. It needs C(psql), as the official image has it.
    type: str
    required: true
  host:
    description:
      - The name by which consumers reach the server on the containers' network. Logins are tried there.
      - The container's own address on its first network by default.
    type: str
  port:
    description: The server's port on that network.
    type: int
    default: 5432
  admin:
    description:
      - A superuser, for servers whose own socket asks for a password.
      - It is tried where the server's first user, C(POSTGRES_USER) of the container, does not get in there without one,
        and before the logins that the other options name.
    type: dict
    suboptions:
      user:
        description: The superuser's name.
        type: str
        required: true
      password:
        description: Its password.
        type: str
  owner:
    description: The role that owns what the application made, and as which every login of the application works.
    type: str
    required: true
  databases:
    description:
      - The databases that matter. All that O(owner) can connect to by default, without templates and without those that
        C(pg_hba.conf) closes to its logins.
    type: list
    elements: str
    default: []
requirements:
  - the C(docker) command line where the module runs
  - PostgreSQL 15 or later; messages in English (C(lc_messages))
notes:
  - Secrets reach a module safely only with pipelining on; otherwise Ansible writes a module's arguments to a temporary
    file on the host.
"""
