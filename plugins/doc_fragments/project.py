# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  project_dir:
    description: The folder that holds the Compose file and C(.env).
    type: path
    required: true
  compose_files:
    description:
      - The Compose files, in their order.
      - When empty, those that the running containers were made from, or the ones that C(docker compose) finds by
        itself.
    type: list
    elements: path
    default: []
  env_file:
    description:
      - The file with the variables, in O(project_dir) unless its path is absolute.
      - By default the one that the running containers were started with (C(--env-file)), else C(.env).
    type: path
  project_name:
    description: The project's name; that of the running containers, or Compose's own choice, by default.
    type: str
requirements:
  - C(docker) with Compose v2 on the host where the module runs
"""
