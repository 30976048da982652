#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: password
short_description: Generate a secret value, and verifiers of it
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Returns a fresh value from the operating system's generator, and on request the verifiers that a server stores
    instead of it.
  - The value is drawn uniformly from all that satisfy the options. The returned entropy is exact for that process.
    It is the binary logarithm of the number of possible values, so required classes and forbidden characters lower it.
  - A request that no value can satisfy is refused before anything is generated.
notes:
  - The result holds the secret. Put C(no_log=true) on the task and on those that use what it registered.
  - With C(delegate_to=localhost) the value does not pass through an SSH connection, which shows a module's output at
    C(-vvv).
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
attributes:
  check_mode:
    support: full
    details:
      - The options are checked; nothing is generated, and RV(value) and RV(hashes) are not returned.
  diff_mode:
    support: N/A
    details:
      - This module does not modify state.
  idempotent:
    support: none
    details:
      - Every run generates another value. It reports no change, since nothing on the host is modified.
options:
  kind:
    description:
      - V(password) holds letters, digits and the characters C(-._~), which mean the same in a URI, in C(.env), in JDBC
        and in YAML.
      - V(hex_key) holds hexadecimal digits, lower case.
      - V(token) holds letters and digits.
      - V(uuid4) is a random UUID, lower case, with 122 random bits.
    type: str
    choices: [password, hex_key, uuid4, token]
    default: password
  length:
    description:
      - The number of characters, at most 1024. 32 for V(password), 64 for V(hex_key) and V(token) by default.
      - Must be even for V(hex_key). Refused for V(uuid4).
    type: int
  min_classes:
    description:
      - From how many classes (lower case letters, upper case letters, digits, symbols) there must be characters.
      - All four for V(password), all three for V(token), 1 for V(hex_key) by default. Refused for V(uuid4).
    type: int
  min_entropy:
    description:
      - The entropy in bits that is at least required. 128 by default, and 122 for V(uuid4).
    type: float
  forbidden:
    description: Characters that must not be used. Refused for V(uuid4).
    type: str
    default: ""
  hashes:
    description:
      - The verifiers to return.
      - V(scram_sha_256) is what PostgreSQL stores.
      - V(bcrypt) and V(sha512_crypt) need the Python package C(libpass) or C(passlib) where the module runs, and
        V(bcrypt) the package C(bcrypt).
      - V(bcrypt) is refused for values of more than 72 characters, of which it would pass over the rest.
    type: list
    elements: str
    choices: [scram_sha_256, bcrypt, sha512_crypt]
    default: []
seealso:
  - module: chat4all.secrets.env_file
"""

EXAMPLES = r"""
- name: Generate a database password and the verifier that PostgreSQL stores
  chat4all.secrets.password:
    hashes: [scram_sha_256]
  delegate_to: localhost
  register: database_password
  no_log: true

- name: Generate a signing key of 256 bits
  chat4all.secrets.password:
    kind: hex_key
  delegate_to: localhost
  register: signing_key
  no_log: true

- name: Generate a password for a form that knows no symbols and at most 20 characters
  chat4all.secrets.password:
    length: 20
    min_classes: 3
    min_entropy: 110
    forbidden: "-._~"
  delegate_to: localhost
  register: form_password
  no_log: true
"""

RETURN = r"""
value:
  description: The generated value. A secret.
  returned: success, outside check mode
  type: str
  sample: "kept out of the documentation"
entropy_bits:
  description: The binary logarithm of the number of values that could come out, rounded down to two decimals.
  returned: success
  type: float
  sample: 193.2
length:
  description: The number of characters.
  returned: success
  type: int
  sample: 32
hashes:
  description: The verifiers asked for, by name.
  returned: success, outside check mode
  type: dict
  sample:
    scram_sha_256: "SCRAM-SHA-256$4096:<salt>$<stored key>:<server key>"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import (
    HASHES,
    KINDS,
    check_hashes,
    password_hash,
    policy,
)

POLICY_OPTIONS = ("kind", "length", "min_classes", "min_entropy", "forbidden")


def password(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    wanted = policy(**{name: params[name] for name in POLICY_OPTIONS})
    check_hashes(params["hashes"], wanted.length)
    result = {"entropy_bits": wanted.entropy_bits, "length": wanted.length}
    if check_mode:
        return result
    value = wanted.draw().value
    return {**result, "value": value, "hashes": {scheme: password_hash(scheme, value) for scheme in params["hashes"]}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "kind": {"type": "str", "choices": list(KINDS), "default": "password"},
            "length": {"type": "int"},
            "min_classes": {"type": "int"},
            "min_entropy": {"type": "float"},
            # Says which characters cannot occur, and is no secret.
            "forbidden": {"type": "str", "default": "", "no_log": False},
            "hashes": {"type": "list", "elements": "str", "choices": list(HASHES), "default": [], "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **password(module.params, module.check_mode))
    except SecretsError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
