#!/usr/bin/python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: store_file
short_description: Read or replace the encrypted store of a deployment on its target
version_added: 0.1.0
author:
  - chat4all maintainers (@chat4all)
description:
  - Handles the file as it is encrypted with Ansible Vault; values and vault password stay on the controller.
  - The file is replaced atomically, under the deployment's lock, and only when it is still the one that was read. It
    has mode 0600, and belongs to the owner of its folder where root writes it.
  - A link, and a file in clear, are refused.
extends_documentation_fragment:
  - chat4all.secrets.attributes
  - chat4all.secrets.attributes.posix
attributes:
  check_mode:
    support: full
    details:
      - What would be refused is refused.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  path:
    description: The store's file.
    type: path
    required: true
  state:
    description: Whether the file is read, or shall have O(content).
    type: str
    choices: [read, present]
    default: read
  content:
    description: The encrypted content; content in clear is refused.
    type: str
  expected_sha256:
    description:
      - The checksum of the file that is to be replaced; without it there must be no file yet.
      - A file that has O(content) already is left alone, whatever its checksum.
    type: str
  state_dir:
    description: The deployment's state folder, whose lock is held while the file is replaced. Required to replace it.
    type: path
"""

EXAMPLES = r"""
- name: Look whether the deployment has a store
  chat4all.secrets.store_file:
    path: /srv/chat4all/.secrets-store.yml
  register: store
"""

RETURN = r"""
content:
  description: The encrypted content; V(null) where there is no file.
  returned: O(state=read)
  type: str
path:
  description: The file.
  returned: success
  type: str
"""

import hashlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write, read_plain_file
from ansible_collections.chat4all.secrets.plugins.module_utils.state import kernel_lock

ENCRYPTED = b"$ANSIBLE_VAULT;"


def read(path: str) -> bytes | None:
    """Return the encrypted content; refuses content in clear, which the connection would show."""
    content = read_plain_file(path)
    if content is not None and not content.startswith(ENCRYPTED):
        raise SecretsError(f"{path}: is not encrypted; ansible-vault encrypt {path}")
    if content is not None and not content.isascii():
        raise SecretsError(f"{path}: is damaged; restore it from a copy")
    return content


def replace(params: dict, check_mode: bool) -> bool:
    path, content = params["path"], params["content"].encode()
    if not content.startswith(ENCRYPTED):
        raise SecretsError(f"{path}: the content is not encrypted with Ansible Vault; nothing was written")
    with kernel_lock(None if check_mode else params["state_dir"]):
        present = read(path)
        if present == content:
            return False
        if (hashlib.sha256(present).hexdigest() if present is not None else None) != params["expected_sha256"]:
            raise SecretsError(f"{path}: somebody else has changed it meanwhile; run the same command again")
        if not check_mode:
            atomic_write(path, content)
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["read", "present"], "default": "read"},
            # No secret by itself, but nothing that the system's log should hold for others to try passwords on.
            "content": {"type": "str", "no_log": True},
            "expected_sha256": {"type": "str"},
            "state_dir": {"type": "path"},
        },
        required_if=[("state", "present", ["content", "state_dir"])],
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        if module.params["state"] == "present":
            module.exit_json(changed=replace(module.params, module.check_mode), path=path)
        content = read(path)
        module.exit_json(changed=False, path=path, content=None if content is None else content.decode())
    except SecretsError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
