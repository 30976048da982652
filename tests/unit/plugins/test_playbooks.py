# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

PLAYBOOKS = os.path.join(os.path.dirname(__file__), "..", "..", "..", "playbooks")
CATALOG = {
    "postgres": {"consumers": [{"name": "anna", "confirm": True}]},
    "other": {"consumers": [{"name": "ben", "confirm": True}]},
    "smtp": None,
}


def told(name: str, **given: str) -> tuple[bool, list[str]]:
    """Return what revoke.yml tells of an entry: that a person has ended its value, and who has confirmed."""
    with open(os.path.join(PLAYBOOKS, "revoke.yml"), encoding="utf-8") as stream:
        [play] = yaml.safe_load(stream)
    own = play["tasks"][-1]["vars"]
    variables = {key: trust_as_template(text) for key, text in own.items()}
    variables |= {"secrets_catalog": CATALOG, "__revoke_name": name, **given}
    templar = Templar(loader=DataLoader(), variables=variables)
    return tuple(templar.template(variables[key]) for key in ("revoke_confirmed", "revoke_confirmed_by"))


@pytest.mark.parametrize(
    ("given", "told_of"),
    [
        ({}, {"postgres": (False, []), "smtp": (False, [])}),
        ({"confirmed": "true"}, {"postgres": (True, []), "smtp": (True, [])}),
        ({"confirmed": "false"}, {"postgres": (False, [])}),
        ({"confirmed": "anna,ben"}, {"postgres": (False, ["anna"]), "other": (False, ["ben"]), "smtp": (False, [])}),
        ({"confirmed": "annna", "revoke": "postgres"}, {"postgres": (False, ["annna"])}),
    ],
)
def test_each_entry_is_told_of_its_own_persons_unless_it_is_named(given, told_of):
    assert {name: told(name, **given) for name in told_of} == told_of
