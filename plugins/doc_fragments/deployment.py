# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  project_dir:
    description: The folder on the target that holds the Compose file and C(.env); the variable C(secrets_project_dir).
    type: path
    required: true
  compose_files:
    description:
      - The Compose files, in their order; the variable C(secrets_compose_files).
      - When empty, those that the running containers were made from, or the ones that C(docker compose) finds by
        itself.
    type: list
    elements: path
    default: []
  env_file:
    description:
      - The file with the variables, in O(project_dir) unless its path is absolute; the variable C(secrets_env_file).
      - By default the one that the running containers were started with (C(--env-file)), else C(.env).
    type: path
  catalog:
    description: The credentials by name; the variable C(secrets_catalog).
    type: dict
    required: true
  services:
    description: Exceptions for services; the variable C(secrets_services).
    type: dict
    default: {}
  store:
    description:
      - Where the values live; the variable C(secrets_store). Keys are C(path), C(location) (V(controller) or V(target))
        and C(vault_id).
      - By default the file C(.secrets-store.yml) beside the inventory, on the controller.
    type: dict
    default: {}
requirements:
  - pipelining (C(ANSIBLE_PIPELINING=true)), so that no secret is ever written to a temporary file on the target
  - C(ruamel.yaml) on the controller
  - C(docker) with Compose v2 on the target
"""
