# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state_dir:
    description: The deployment's state folder, whose lock is held while the module works. No lock by default.
    type: path
  holder:
    description: Who must hold the lease in O(state_dir); a run that has lost it changes nothing. Not looked at by default.
    type: dict
    suboptions:
      rotation:
        description: The rotation's id.
        type: str
        required: true
      owner:
        description: Who runs it.
        type: str
        required: true
      store_id:
        description: The store in use, and O(holder.serial), which the target remembers; an older one is refused.
        type: str
      serial:
        description: The store's serial.
        type: int
  ledger:
    description:
      - Records to append to the ledger in O(state_dir) when the work is done, such as C(rotation), C(credential), C(step)
        and C(state). Never a value of a credential.
    type: list
    elements: dict
    default: []
"""
