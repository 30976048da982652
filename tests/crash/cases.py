# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is rotated while it is killed: one line for each strategy of each engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """A credential of the small stack, the command that rotates it, and what its users may notice."""

    name: str
    catalog: dict[str, dict[str, Any]]
    command: tuple[str, ...] = ("rotate-db.yml",)
    # Whether one refused login is a failure; where it is not, they are reported.
    zero_refused: bool = True
    # Each rotation is the first after adoption, in which the image's own user hands over to a login of ours.
    first: bool = False


CASES = {
    case.name: case
    for case in (
        Case("alternating_users", {"postgres": {}}),
        Case("single_user", {"postgres": {"strategy": "single_user"}}, zero_refused=False),
        Case("first_rotation", {"postgres": {}}, first=True),
    )
}
