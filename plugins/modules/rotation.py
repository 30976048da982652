#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation
short_description: Take one step of a credential's rotation
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - The protocol is C(open), C(create), C(set), C(test), C(publish), C(roll_out), C(drain), C(finish), C(revoke);
    C(back) returns to the old value. The role P(chat4all.secrets.rotate#role) calls the steps in their order.
  - Every step is idempotent. After a run that was killed anywhere, the same steps are called again.
  - The engine is reached through its two modules, C(ENGINE_credential) and C(ENGINE_credential_info).
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
  - chat4all.secrets.deployment
attributes:
  action:
    description: Runs on the controller, and calls modules on the target.
    support: full
  check_mode:
    support: full
    details:
      - With check mode O(step=open) prints the plan; every other step is skipped. Nothing is touched.
  idempotent:
    support: full
  diff_mode:
    support: none
options:
  step:
    description: The step.
    type: str
    required: true
    choices: [open, create, set, test, publish, roll_out, drain, finish, revoke, back]
  credential:
    description: The credential's name in the catalog.
    type: str
    required: true
  purpose:
    description: What O(step=open) shall prepare.
    type: str
    choices: [rotate, revoke, abort]
    default: rotate
  drift:
    description:
      - What to do where C(.env) or the server has another value than the store.
      - V(replace) rotates to a new value, for which no old password is needed.
    type: str
    choices: [refuse, replace]
    default: refuse
  end_grace:
    description: With O(purpose=revoke), end the old value although its grace is not over.
    type: bool
    default: false
  confirmed:
    description: A person says that the old value has been ended where it was issued, which nobody here can do or see.
    type: bool
    default: false
  confirmed_by:
    description:
      - With O(purpose=revoke), the persons who do not use the old value any more. The store remembers them; the old
        value ends once all have confirmed.
    type: list
    elements: str
    default: []
  jwt:
    description: What a run does with a JWT signing key, whose phases follow dates otherwise.
    type: dict
    default: {}
    suboptions:
      phase:
        description: The phase that is carried out now; refused where another one comes first, or where it would invalidate
          live tokens.
        type: str
        choices: ["", introduce, promote, retire]
        default: ""
      emergency:
        description: The key is compromised. A new one signs at once, and no other one is accepted.
        type: bool
        default: false
      accept_invalid_tokens:
        description: With O(jwt.phase), carry it out although live tokens become invalid.
        type: bool
        default: false
  opened:
    description: What O(step=open) returned.
    type: dict
    default: {}
  accepted:
    description: What O(step=set) returned.
    type: dict
    default: {}
  rolled:
    description: What O(step=roll_out) returned.
    type: dict
    default: {}
  ended:
    description: What O(step=revoke) returned, where an earlier value was ended in the same run.
    type: dict
    default: {}
  skip_services:
    description: Consumers that keep what they have; they stay stale. Those outside Compose are named as in the catalog.
    type: list
    elements: str
    default: []
  accept_weak:
    description: Replace consumers that have neither health check nor log pattern.
    type: bool
    default: false
  end_sessions:
    description: Go on at O(step=drain) where sessions still use the old value; they end with it.
    type: bool
    default: false
  take_lock:
    description: The rotation whose lock may be taken by force, because its owner is known to be gone.
    type: str
  drain:
    description: How long O(step=drain) waits, in seconds.
    type: dict
    default: {}
    suboptions:
      quiet:
        description: For how long the old value must have no session, 2 by default.
        type: float
      timeout:
        description: When it gives up, 60 by default.
        type: float
  rollout:
    description: Options of M(chat4all.secrets.compose_rollout); its defaults where they are left out.
    type: dict
    default: {}
    suboptions:
      hosts:
        description: On how many hosts containers are replaced at the same time, 1 by default.
        type: int
      parallel:
        description: How many services of a wave are replaced at the same time.
        type: int
      timeout:
        description: Seconds until a new container must be ready, or a job must have ended.
        type: float
      quiet:
        description: Seconds for which a ready container has to stay without a failure, before its old one goes.
        type: float
      settle:
        description: Seconds that a proxy is given to find the new containers, before the old ones are stopped.
        type: float
      failure_log:
        description: Regular expressions of log lines that end the wait at once.
        type: list
        elements: str
"""

EXAMPLES = r"""
- name: Print the plan of a rotation
  chat4all.secrets.rotation:
    step: open
    credential: postgres
    project_dir: /srv/chat4all
    catalog:
      postgres: {}
  check_mode: true
"""

RETURN = r"""
facts:
  description: What M(chat4all.secrets.catalog_info) says of the credential.
  returned: O(step=open)
  type: dict
phase:
  description: >-
    Where the rotation stands: V(new), V(forward), V(back), V(revoke) (all is done but the old value's end),
    V(revoke_first) (the grace of an earlier value is over), V(grace) (it is not), V(waits) (a person has to confirm) or
    V(ended) (nothing is left to do, or due).
  returned: O(step=open)
  type: str
rotation:
  description: The rotation's id.
  returned: O(step=open)
  type: str
  sample: r-7f3a
login:
  description: How a login with the new value went, over the consumers' network and in every database.
  returned: O(step=set)
  type: dict
revoke:
  description: Whether the old value ends in the same run.
  returned: O(step=finish)
  type: bool
gaps:
  description: Seconds without service, by service that had to be stopped first.
  returned: O(step=roll_out)
  type: dict
own_refusals:
  description: How many logins that this step tried on purpose were refused.
  returned: O(step=revoke)
  type: int
"""
