#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_state
short_description: Lock a deployment on its target, and remember how far a rotation is
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Keeps a small state file on the target. It holds the lease of the running rotation, safe facts of an unfinished one, and the
    highest serial of the store that was ever used, so that an older copy of the store is refused. It holds no secret.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
attributes:
  check_mode:
    support: full
    details:
      - With check mode nothing is written; a lock that somebody holds is refused all the same.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - V(take) and V(keep) renew the lease, which is no change of the deployment.
options:
  path:
    description: The state folder, made with mode 0700.
    type: path
    required: true
  action:
    description:
      - V(read) returns the state; V(take) takes the lock for O(rotation); V(keep) renews it (it counts as dead after
        120 seconds in which no module worked); V(release) ends it and forgets the
        record; V(remember) remembers O(serial) alone.
    type: str
    choices: [read, take, keep, release, remember]
    default: read
  rotation:
    description: The rotation's id.
    type: str
  owner:
    description: Who runs it, for others' messages.
    type: str
  take_lock:
    description: A rotation whose lease may be taken although it is alive.
    type: str
  dead_owner:
    description: An owner whose lease may be taken although it is alive, because its process is known to be gone.
    type: str
  store_id:
    description: The store in use.
    type: str
  serial:
    description: The store's serial; refused when it is lower than the highest one seen of O(store_id).
    type: int
  record:
    description: Safe facts of the rotation, merged with those remembered.
    type: dict
    default: {}
  outcome:
    description: With V(release), how the last rotation of a credential ended, by the credential's name.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: See whether somebody works on the deployment
  chat4all.secrets.deployment_state:
    path: /srv/chat4all/.chat4all
"""

RETURN = r"""
lock:
  description: Who holds the lock (C(rotation), C(owner), C(since)); V(null) where nobody does.
  returned: success
  type: dict
record:
  description: What is remembered of an unfinished rotation.
  returned: success
  type: dict
outcomes:
  description: How the last rotation of each credential ended.
  returned: success
  type: dict
highest_serial:
  description: The highest serial of the store that was used.
  returned: success
  type: int
took_over:
  description: The rotation whose dead lock was taken over.
  returned: O(action=take)
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils import state as states
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError


def carry_out(params: dict, check_mode: bool) -> dict:
    file = states.StateFile(params["path"])
    action, taken_over = params["action"], None

    def change(state: dict) -> None:
        nonlocal taken_over
        lease = (params["rotation"], params["owner"])
        if action == "take":
            states.check_serial(state, params["store_id"], params["serial"])
            taken_over = states.take(state, *lease, params["take_lock"], params["dead_owner"])
            if (state.get("record") or {}).get("rotation") != params["rotation"]:
                state["record"] = {}
        elif action == "keep":
            states.keep(state, *lease)
        elif action == "release" and (state.get("lease") or {}).get("rotation") in (None, params["rotation"]):
            state["lease"], state["record"] = None, None
            state["outcomes"] = {**(state.get("outcomes") or {}), **params["outcome"]}
        states.remember_serial(state, params["store_id"], params["serial"])
        if action in ("take", "keep"):
            state["record"] = {**(state.get("record") or {}), **params["record"]}

    if action == "read" or check_mode:
        current = file.read()
        states.check_serial(current, params["store_id"], params["serial"])
        if action != "read":
            change(current)
    else:
        current = file.update(change)
    lease = current.get("lease")
    lock = {key: lease[key] for key in ("rotation", "owner", "since")} if lease and states.lease_alive(lease) else None
    return {
        "changed": False,
        "lock": lock,
        "record": current.get("record") or {},
        "outcomes": current.get("outcomes") or {},
        "highest_serial": (current.get("store") or {}).get("serial", 0),
        "took_over": taken_over,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "action": {"type": "str", "choices": ["read", "take", "keep", "release", "remember"], "default": "read"},
            "rotation": {"type": "str"},
            "owner": {"type": "str"},
            "take_lock": {"type": "str"},
            "dead_owner": {"type": "str"},
            "store_id": {"type": "str"},
            "serial": {"type": "int"},
            "record": {"type": "dict", "default": {}},
            "outcome": {"type": "dict", "default": {}},
        },
        required_if=[
            ("action", "take", ["rotation", "owner"]),
            ("action", "keep", ["rotation", "owner"]),
            ("action", "release", ["rotation"]),
            ("action", "remember", ["store_id", "serial"]),
        ],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**carry_out(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
