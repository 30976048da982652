# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  container:
    description:
      - Name or id of the container in which the server runs. It needs C(psql), as the official image has it.
      - Either this or O(address).
    type: str
  address:
    description:
      - Where a server is that does not run in a container of this host. It is reached over TLS alone, and its certificate
        is verified (C(verify-full)).
      - O(admin) and O(databases) are needed with it. O(admin) need not be a superuser. It needs C(CREATEROLE), the roles
        C(pg_read_all_stats) and C(pg_signal_backend), and since PostgreSQL 16 the C(ADMIN OPTION) on O(owner).
      - The server's log cannot be read there, so refused logins are not counted; nor are its verifiers and C(pg_hba.conf),
        so a password is known by logging in with it.
    type: dict
    suboptions:
      host:
        description: Its name, as its certificate has it, or its address.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        default: 5432
      ca:
        description:
          - A file on the host where the module runs, with the certificates of the authorities that may vouch for the
            server, for example C(/etc/ssl/certs/ca-certificates.crt).
        type: path
        required: true
      database:
        description: The database to which O(admin) connects.
        type: str
        default: postgres
      network:
        description:
          - The container network from which the server is asked where the host has no C(psql). It is then run in a
            container, from an image of PostgreSQL that is there already.
        type: str
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
      - A superuser, for servers whose own socket asks for a password; with O(address) whoever makes roles there.
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
  - the C(docker) command line where the module runs, or with O(address) C(psql)
  - PostgreSQL 15 or later; messages in English (C(lc_messages))
notes:
  - Secrets reach a module safely only with pipelining on; otherwise Ansible writes a module's arguments to a temporary
    file on the host.
"""
