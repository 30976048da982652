#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: catalog_info
short_description: Derive servers, consumers and the roll-out plan of credentials from a Compose project
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Resolves entries of the catalog against the Compose files, C(.env) and the running containers.
  - A service is a consumer when its resolved configuration changes with one of the credential's variables.
  - Reads only. The result holds no secret value in clear.
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
options:
  catalog:
    description: The catalog, see the variable C(secrets_catalog) in the collection's documentation.
    type: dict
    required: true
  services:
    description: Exceptions for services, see the variable C(secrets_services).
    type: dict
    default: {}
  credentials:
    description: Names of the entries to resolve; all of them when empty.
    type: list
    elements: str
    default: []
  skip_services:
    description: Consumers that shall keep what they have.
    type: list
    elements: str
    default: []
  survey:
    description:
      - Only say which services may be the server of each credential of the catalog, in RV(servers), and which services
        there are.
      - The first of two looks at a deployment that has several hosts.
    type: bool
    default: false
  elsewhere:
    description:
      - For a deployment that has several hosts, what RV(servers) says of the server of each credential, by the
        credential's name, and on which C(host) it is; empty where it is on this host. Here a credential need not have a
        consumer.
      - O(services) and O(skip_services) are then those of all hosts; what is not on this one is passed over.
    type: dict
  fingerprint_key:
    description: Key (hexadecimal) of the fingerprints by which values in C(.env) are compared with a store.
    type: str
  seal_key:
    description:
      - One-time key (32 bytes, hexadecimal). With it the values found in C(.env) are returned sealed in RV(sealed), so
        that they can be imported into a store, and nobody who sees the result can read them.
    type: str
"""

EXAMPLES = r"""
- name: Show who uses the PostgreSQL credential
  chat4all.secrets.catalog_info:
    project_dir: /srv/chat4all
    catalog:
      postgres: {}
  register: catalog

- name: Show the waves in which they would be replaced
  ansible.builtin.debug:
    var: catalog.credentials.postgres.plan.waves
"""

RETURN = r"""
credentials:
  description: What is known of each credential, by its name in the catalog.
  returned: success
  type: dict
  contains:
    consumers:
      description: The Compose services that use it.
      type: list
      elements: str
    engine:
      description: The engine.
      type: str
    files:
      description: >-
        The consumers outside Compose that have a file (C(name), C(path), C(host), C(variables), C(after), C(timeout)).
      type: list
      elements: dict
    left_behind:
      description: Services that have the password from a file of their own, a line each with the edit that ends that.
      type: list
      elements: str
    persons:
      description: The persons who have to confirm that they do not use the old value any more.
      type: list
      elements: str
    plan:
      description: >-
        The waves of the roll-out (C(waves), each a list of services with C(mode), C(reason), C(evidence) and
        C(called_by), the services that call one that is replaced start-first by its name and so see some refused calls)
        and every reason not to begin (C(refusals), each with C(text) and C(kind), which is V(job), V(job_failed),
        V(impossible), V(shared), V(unhealthy) or V(weak)).
      type: dict
    role:
      description: The role that owns the objects.
      type: str
    siblings:
      description: The other entries of the same server.
      type: list
      elements: str
    server:
      description: The running container of the server, or V(null) where none runs or none is needed.
      type: dict
project:
  description: The Compose project.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    files:
      description: The Compose files in their order.
      type: list
      elements: str
    env_file:
      description: The file with its variables, absolute, see O(env_file). It need not exist.
      type: str
addresses:
  description: The service of every container address of the project.
  returned: success
  type: dict
pending_changes:
  description: What C(docker compose up -d) would do to services with containers, each the service and what
    (V(recreate) or V(create)). What it would recreate only because of another one is left out.
  returned: success
  type: list
  elements: list
image_drift:
  description: Which containers run another image than their tag names now, a line each.
  returned: success
  type: list
  elements: str
own_addresses:
  description: The addresses of the host itself.
  returned: when O(elsewhere) is given
  type: list
  elements: str
servers:
  description: Which services may be the server of each credential, with C(service), C(image), C(engine), C(role) and
    C(named) (by its name, not by its image alone).
  returned: when O(survey=true)
  type: dict
services:
  description: The services of the project.
  returned: when O(survey=true)
  type: list
  elements: str
sealed:
  description: The values found in C(.env), sealed with O(seal_key).
  returned: when O(seal_key) is given
  type: str
"""

import contextlib
import ipaddress
import json
import re
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils import catalog as catalog_facts
from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import meant
from ansible_collections.chat4all.secrets.plugins.module_utils.api_tokens import with_ready_log
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container, Project, by_address
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import (
    checked_catalog,
    is_uri,
    service_options,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import INIT_PREFIX
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.fingerprints import fingerprint
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import (
    PROJECT_OPTIONS,
    check_env,
    project_arguments,
    read_env,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import seal
from ansible_collections.chat4all.secrets.plugins.module_utils.uris import parse

OPTIONS = {
    **PROJECT_OPTIONS,
    "catalog": {"type": "dict", "required": True},
    "services": {"type": "dict", "default": {}},
    "credentials": {"type": "list", "elements": "str", "default": []},
    "skip_services": {"type": "list", "elements": "str", "default": []},
    "survey": {"type": "bool", "default": False},
    "elsewhere": {"type": "dict"},
    "fingerprint_key": {"type": "str", "no_log": True},
    "seal_key": {"type": "str", "no_log": True},
}


def fingerprints(key: str | None, values: dict[str, str]) -> dict[str, str]:
    if not key:
        return {}
    return {name: fingerprint(bytes.fromhex(key), value) for name, value in values.items()}


def own_addresses() -> list[str]:
    """Return the host's own IPv4 and IPv6 addresses, as the kernel knows them; loopback is everybody's."""
    found = set()
    with contextlib.suppress(OSError), open("/proc/net/fib_trie", encoding="ascii") as table:
        found = set(re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", table.read()))
    with contextlib.suppress(OSError), open("/proc/net/if_inet6", encoding="ascii") as table:
        found |= {str(ipaddress.IPv6Address(bytes.fromhex(row.split()[0]))) for row in table}
    return sorted(one for one in found if not ipaddress.ip_address(one).is_loopback)


def examine(params: dict) -> dict:
    catalog = checked_catalog(params["catalog"])
    names = params["credentials"] or list(catalog)
    for name in names:
        if name not in catalog:
            raise SecretsError(f"{name}: not in secrets_catalog; there are {', '.join(catalog)}")
    project = Project.load(DockerCli(), *project_arguments(params))
    check_env(project.env_file)
    if params["survey"]:
        servers = {}
        for name in catalog:
            # What is wrong with an entry that is not asked for is no matter here.
            with contextlib.nullcontext() if name in names else contextlib.suppress(SecretsError):
                servers[name] = catalog_facts.candidates(name, catalog[name], project)
        return {"servers": servers, "services": sorted(project.services)}
    containers = project.containers()
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = pool.submit(project.pending_changes, containers)
        credentials, found = look_up(params, project, catalog, names, containers)
        changes = pending.result()
    result = {
        "credentials": credentials,
        "project": {
            "name": project.name,
            "files": project.files,
            "env_file": project.env_file,
        },
        "addresses": by_address(containers),
        "pending_changes": [list(change) for change in changes],
        "image_drift": project.image_drift(containers),
    }
    if params["elsewhere"] is not None:
        result["own_addresses"] = own_addresses()
    if params["seal_key"]:
        result["sealed"] = seal(bytes.fromhex(params["seal_key"]), json.dumps(found).encode())
    return result


def look_up(
    params: dict, project: Project, catalog: dict, names: list[str], containers: list[Container]
) -> tuple[dict, dict]:
    """Return the facts of the credentials, and what the env file holds of each one's variables."""
    spread, given = params["elsewhere"] is not None, params["services"]
    if spread and isinstance(given, dict):
        given = {name: options for name, options in given.items() if name in project.services}
    services = service_options(given, project.services, project.directory)
    credentials, found = {}, {}
    for name in names:
        serves = any(entry.get("admin") == name for entry in catalog.values())
        away = params["elsewhere"] and params["elsewhere"][name]
        facts = catalog_facts.resolve(name, catalog[name], project, away, serves)
        facts["siblings"] = catalog_facts.siblings(name, catalog, project, params["elsewhere"])
        used = [name for variable in facts["variables"].values() for name in (variable, INIT_PREFIX + variable)]
        used += [facts["previous_variable"]] if facts.get("previous_variable") else []
        present = read_env(project.env_file, used)
        logins = {
            variable: parse(present[variable], f"{project.env_file}: {variable}")
            for part, variable in facts["variables"].items()
            if is_uri(part) and variable in present
        }
        user = present.get(facts["variables"].get("user", "")) or next((one.user for one in logins.values()), "")
        # Of several hosts another one's .env may have it.
        if facts["address"] and not user and not facts["declared_role"] and not spread:
            raise SecretsError(f"secrets_catalog.{name}.role: nobody knows it, as .env has no user; add role: NAME")
        if facts["service"]:
            facts["role"] = catalog_facts.role_of(facts, present, user)
        # A service of that name on another host than the server's is something else.
        own = "" if (spread and away) or facts["address"] else facts["service"]
        if facts["address"]:
            # Where a service is connected that logs in there, our own client may be, too.
            networks = [net for one in containers if one.service in facts["consumers"] for net in one.addresses]
            facts["address"]["network"] = min(networks, default=None)
            ruler = catalog[facts["admin"] or name]
            facts["address"]["database"] = (
                ruler.get("database") or ruler["address"].get("database") or catalog_facts.MAINTENANCE
            )
        running = next((c for c in containers if c.service == own and c.running), None)
        facts["server"] = {"id": running.id} if running else None
        facts["in_use"] = any(c.service in facts["consumers"] for c in containers)
        facts["has_data"] = not own or any(c.service == own for c in containers) or project.has_data(own)
        if not facts["service"]:
            # Without a server, what runs is all that may know a value.
            facts["has_data"] = facts["in_use"]
        begun = bool(facts["in_use"] or facts["address"] or (own and facts["has_data"]))
        secrets = {**present, **{variable: one.password for variable, one in logins.items()}}
        # Of a URI the login alone is the credential's.
        compared = {**present, **{variable: one.login for variable, one in logins.items()}}
        compared = {name: compared[name] for name in meant(secrets, facts["variables"], begun)}
        facts["env"] = {"fingerprints": fingerprints(params["fingerprint_key"], compared)}
        facts["plan"] = catalog_facts.roll_out_plan(
            project,
            containers,
            own,
            facts["consumers"],
            with_ready_log(services, facts),
            params["skip_services"],
            spread,
            [one["name"] for one in facts.get("files", [])],
        )
        facts["left_behind"] = catalog_facts.left_behind(project, own, facts["variables"], present)
        facts["plan"]["refusals"] = [*facts.pop("objections", []), *facts["plan"]["refusals"]]
        found[name] = present
        credentials[name] = facts
    return credentials, found


def main() -> None:
    module = AnsibleModule(
        argument_spec=OPTIONS,
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **examine(module.params))
    except SecretsError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
