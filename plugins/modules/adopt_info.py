#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: adopt_info
short_description: Find the secrets of a Compose project that nobody has described yet
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Looks at the Compose files (several, with C(include), C(extends), profiles, anchors), C(.env), other files named by
    C(env_file), and Compose C(secrets), and tells which servers are there, where the password of each one's first user
    comes from, and which services use it.
  - Servers are known by the name of their image or service, or by their data and variables; PostgreSQL, MongoDB, Redis
    and Valkey, MinIO, Grafana and Keycloak with their descendants.
  - Whatever else looks like a secret is returned in RV(ask); only its owner knows what it is.
  - Reads only. The result holds no value.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.attributes.info_module
  - chat4all.secrets.project
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: See what is there
  chat4all.secrets.adopt_info:
    project_dir: /srv/chat4all
  register: there

- name: Show what stands in the way of a rotation
  ansible.builtin.debug:
    var: there.warn
"""

RETURN = r"""
found:
  description: The servers that are known, and the password of each one's first user.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The Compose service of the server.
      type: str
      sample: postgres
    engine:
      description: What it is.
      type: str
      sample: postgresql
    place:
      description:
        - Where the password comes from, which is V(variable) (of C(.env)), V(literal) (typed into the Compose file),
          V(env_file) (another file, in RV(found[].file)), V(secret) (the file of a Compose secret, in
          RV(found[].file)) or V(none) (the server asks for none).
      type: str
    variable:
      description: The variable of C(.env), else that of the container; empty where there is none.
      type: str
      sample: POSTGRES_PASSWORD
    file:
      description: The file that holds the value, where it is not C(.env).
      type: str
    user_variable:
      description: The variable of C(.env) with the user's name; empty where the name does not come from one.
      type: str
      sample: POSTGRES_USER
    unusual:
      description: Whether neither image nor service are named after the engine, so that the catalog has to name it.
      type: bool
    uris:
      description: The variables of C(.env) that hold it within a URI.
      type: list
      elements: str
    direct:
      description: Whether a consumer has it in another way than within a URI.
      type: bool
    service:
      description: The server, where the credential is not its first user's; else empty.
      type: str
    consumers:
      description: The other services that have the value.
      type: list
      elements: str
ask:
  description: What else looks like a secret.
  returned: success
  type: list
  elements: dict
  contains:
    variable:
      description: As with RV(found[].variable).
      type: str
    place:
      description: As with RV(found[].place).
      type: str
    file:
      description: As with RV(found[].file).
      type: str
    in_env:
      description: Whether the project's env file has a value for it.
      type: bool
    services:
      description: The services that have it.
      type: list
      elements: str
warn:
  description: What stands in the way of a rotation, or should not stay as it is, a line each.
  returned: success
  type: list
  elements: str
  sample: ['user-service: user name is the literal "chat4all" -> use ${POSTGRES_USER:-chat4all}']
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import Credential, Place, Secret, survey
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import PROJECT_OPTIONS, project_arguments


def origin(secret: Secret | None) -> dict:
    """Return where a secret comes from."""
    if secret is None:
        return {"place": "none", "variable": "", "file": ""}
    place = secret.place
    file = place.name if place.kind in ("env_file", "secret") else ""
    return {"place": place.kind, "variable": secret.label, "file": file}


def row(credential: Credential) -> dict:
    user: Place | None = credential.user
    return {
        "name": credential.name,
        "engine": credential.engine,
        **origin(credential.password),
        "user_variable": user.name if user and user.kind == "variable" else "",
        "unusual": credential.unusual,
        "uris": credential.uris,
        "direct": credential.direct,
        "service": credential.service,
        "consumers": credential.consumers,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=PROJECT_OPTIONS, supports_check_mode=True)
    try:
        findings = survey(Project.load(DockerCli(), *project_arguments(module.params)))
    except SecretsError as error:
        module.fail_json(msg=error.message)
    module.exit_json(
        changed=False,
        found=[row(credential) for credential in findings.found],
        ask=[{**origin(secret), "in_env": secret.in_env, "services": sorted(secret.users)} for secret in findings.ask],
        warn=findings.warn,
    )


if __name__ == "__main__":
    main()
