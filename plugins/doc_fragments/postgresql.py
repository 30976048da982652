# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  container:
    description: The running container of the server (name or id). It is administrated over its local socket.
    type: str
    required: true
  host:
    description: The server's name on the consumers' network; a login is tried there, where C(trust) does not reach.
    type: str
    required: true
  port:
    description: The server's port.
    type: int
    default: 5432
  owner:
    description: The role that owns the objects, and that both logins of a pair work as.
    type: str
    required: true
requirements:
  - C(docker) on the host where the module runs, C(psql) in the server's container
  - PostgreSQL 13 or later
"""
