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
  - Keeps a small state file on the target. It holds the lease of the running rotation, safe facts of unfinished ones,
    and the highest serial of the store that was ever used, so that an older copy of the store is refused. It holds no
    secret.
  - The lease says who works on the deployment between two modules; while a module works, the kernel's lock says so.
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
      - V(read) returns the state.
      - V(take) takes the lock for O(rotation). It is refused while another run holds it, by O(owner) too.
      - V(keep) renews it; without that it is dead 120 seconds after the last module worked, or when the machine was
        restarted.
      - V(release) ends it and forgets the record.
    type: str
    choices: [read, take, keep, release]
    default: read
  rotation:
    description: The rotation's id.
    type: str
  owner:
    description:
      - Who runs it, for others' messages, which leave out a last word that begins with C(#). Two runs of the same rotation
        are told apart by it.
      - With V(release), refused where another run has taken the lock meanwhile.
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
    description:
      - With V(take) and V(keep), safe facts of the rotation, merged with those remembered.
      - Its key C(credential) names the credential; a rotation takes the place of an earlier one of the same credential.
    type: dict
    default: {}
  forget:
    description: With V(release), whether the record is forgotten.
    type: bool
    default: true
  outcome:
    description:
      - With V(release), how the last rotation of a credential ended, by the credential's name, such as C(result) and
        C(seconds).
    type: dict
    default: {}
  ledger:
    description:
      - Records to append to the ledger once the rest is done, such as C(rotation), C(credential), C(step) and C(state).
      - Numbered, dated and chained to the record before by its SHA-256. Never a value of a credential.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: See whether somebody works on the deployment
  chat4all.secrets.deployment_state:
    path: /srv/chat4all/.chat4all
  register: state

- name: Keep rotations away while the host is maintained
  chat4all.secrets.deployment_state:
    path: /srv/chat4all/.chat4all
    action: take
    rotation: maintenance
    owner: anna@laptop
"""

RETURN = r"""
lock:
  description: Who holds the lock (C(rotation), C(owner), C(since), C(expires)); V(null) where nobody does.
  returned: success
  type: dict
record:
  description: What is remembered of O(rotation) when it is unfinished; without O(rotation), of the last unfinished one.
  returned: success
  type: dict
records:
  description: What is remembered of every unfinished rotation, the last one at the end.
  returned: success
  type: list
  elements: dict
outcomes:
  description: How the last rotation of each credential ended.
  returned: success
  type: dict
highest_serial:
  description: The highest serial of O(store_id) that was used; 0 where it was not used yet.
  returned: success
  type: int
ledger:
  description: How many records the ledger has (C(entries)), and what is wrong with it (C(problem), empty where nothing is).
  returned: success
  type: dict
  sample: {entries: 412, problem: ""}
clock:
  description:
    - The host's time in seconds, by the clock that people read (C(wall), since 1970) and by the one that nobody sets
      (C(boot), since the machine was started).
  returned: success
  type: dict
  sample: {wall: 1767225600.0, boot: 4711.0}
took_over:
  description: The rotation whose dead lock was taken over.
  returned: O(action=take)
  type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils import state as states
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.ledger import Ledger

# What people need to know of a lease.
SHOWN = ("rotation", "owner", "since", "expires")


def carry_out(params: dict, check_mode: bool) -> dict:
    file = states.StateFile(params["path"])
    action, taken_over = params["action"], None

    def change(state: dict) -> None:
        nonlocal taken_over
        rotation, owner = params["rotation"], params["owner"]
        if action == "take":
            taken_over = states.take(state, rotation, owner, params["take_lock"], params["dead_owner"])
        elif action == "keep":
            states.keep(state, rotation, owner)
        elif action == "release":
            states.release(state, rotation, owner, params["forget"])
            state["outcomes"] = {**state.get("outcomes", {}), **params["outcome"]}
        states.remember_serial(state, params["store_id"], params["serial"])
        if action in ("take", "keep") and params["record"]:
            states.note(state, rotation, params["record"])

    if action == "read" or check_mode:
        current = file.read()
        states.check_serial(current, params["store_id"], params["serial"])
        if action != "read":
            change(current)
    else:
        current = file.update(change, params["ledger"])
    lease, records = current.get("lease"), current.get("records", {})
    last = list(records.values())[-1:] or [{}]
    entries, problem = Ledger(params["path"]).verify(states.ledger_end(current))
    return {
        "changed": False,
        "lock": {key: lease[key] for key in SHOWN} if states.lease_alive(lease) else None,
        "record": records.get(params["rotation"], {}) if params["rotation"] else last[0],
        "records": list(records.values()),
        "outcomes": current.get("outcomes", {}),
        "highest_serial": current.get("serials", {}).get(params["store_id"], 0),
        "ledger": {"entries": entries, "problem": problem},
        "clock": {"wall": time.time(), "boot": states.boot_seconds()},
        "took_over": taken_over,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "action": {"type": "str", "choices": ["read", "take", "keep", "release"], "default": "read"},
            "rotation": {"type": "str"},
            "owner": {"type": "str"},
            "take_lock": {"type": "str"},
            "dead_owner": {"type": "str"},
            "store_id": {"type": "str"},
            "serial": {"type": "int"},
            "record": {"type": "dict", "default": {}},
            "forget": {"type": "bool", "default": True},
            "outcome": {"type": "dict", "default": {}},
            "ledger": {"type": "list", "elements": "dict", "default": []},
        },
        required_if=[
            ("action", "take", ["rotation", "owner"]),
            ("action", "keep", ["rotation", "owner"]),
            ("action", "release", ["rotation"]),
        ],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**carry_out(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
