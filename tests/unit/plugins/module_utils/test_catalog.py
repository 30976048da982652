# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Service
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

ENVIRONMENT = {"POSTGRES_USER": "chat4all", "POSTGRES_DB": "app"}


def service(name, image="app:1", **config):
    return Service(name, image, config, {}, False)


def project(*services):
    """A project in which ``postgres`` and ``app`` use both variables."""
    found = {one.name: one for one in services or (service("postgres", "postgres:17", environment=ENVIRONMENT),)}
    return SimpleNamespace(
        services=found,
        directory="/srv/demo",
        consumers=lambda variables: {name: {"app", "postgres"} for name in variables},
    )


def test_an_empty_entry_takes_the_defaults_of_engine_and_stack():
    facts = catalog.resolve("postgres", {}, project())
    assert (facts["role"], facts["database"], facts["consumers"]) == ("chat4all", "app", ["app"])
    assert (facts["interval"], facts["grace"], facts["priority"]) == (90 * 86400, 0, "high")
    assert facts["generate"] == {"kind": "password", "length": 32}


def test_what_an_entry_says_counts():
    entry = {"role": "app", "interval": 60, "grace": 5, "priority": "low", "generate": {"length": 40}}
    facts = catalog.resolve("postgres", entry, project())
    assert (facts["role"], facts["interval"], facts["grace"], facts["priority"]) == ("app", 60, 5, "low")
    assert facts["generate"] == {"kind": "password", "length": 40}


@pytest.mark.parametrize("kind", ["uuid4", "hex_key", "token"])
def test_another_kind_has_a_length_of_its_own(kind):
    facts = catalog.resolve("postgres", {"generate": {"kind": kind}}, project())
    assert facts["generate"] == {"kind": kind}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"kind": "pin"}, r"^secrets_catalog\.postgres\.generate\.kind: unknown 'pin'"),
        ({"kind": ["pin"]}, r"^secrets_catalog\.postgres\.generate\.kind: unknown \['pin'\]"),
        ({"length": "long"}, r"^secrets_catalog\.postgres\.generate\.length: must be a number, not 'long'"),
        ({"length": 8}, r"^secrets_catalog\.postgres\.generate\.min_entropy: .* has "),
    ],
)
def test_a_rule_that_cannot_be_met_is_refused_with_its_place(rule, said):
    with pytest.raises(SecretsError, match=said):
        catalog.resolve("postgres", {"generate": rule}, project())
