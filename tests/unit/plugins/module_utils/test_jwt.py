# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import checked_catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys
from ansible_collections.chat4all.secrets.plugins.plugin_utils.jwt_rotation import (
    phase_services,
    roll_out_order,
)

SHARED = {"JWT_SIGNING_KEY": {"auth", "chat", "gate"}, "JWT_SIGNING_KEY_SECONDARY": {"auth", "chat", "gate"}}
PAIR = {"JWT_SIGNING_KEY": {"auth"}, "JWT_JWKS": {"auth", "chat", "gate"}, "JWT_KEY_ID": {"auth"}}


def resolved(used, spread=False, **entry):
    project = SimpleNamespace(
        services={},
        directory="/srv/demo",
        consumers=lambda variables: {name: set(used.get(name, ())) for name in variables},
    )
    return catalog.resolve("jwt", checked_catalog({"jwt": entry})["jwt"], project, {} if spread else None)


def test_with_a_shared_key_every_consumer_signs_and_verifies():
    facts = resolved(SHARED)
    assert facts["signers"] == facts["verifiers"] == facts["consumers"] == ["auth", "chat", "gate"]
    assert (facts["algorithm"], facts["interval"], facts["priority"]) == ("HS256", 365 * 86400, "critical")
    assert roll_out_order(facts, "introduce") == ([], ["auth", "chat", "gate"])


def test_signers_come_last_with_a_new_key_and_first_with_one_that_was_introduced():
    facts = resolved(SHARED, signers=["auth"])
    assert roll_out_order(facts, "introduce") == (["chat", "gate"], ["auth"])
    assert roll_out_order(facts, "promote") == (["auth"], ["chat", "gate"])
    assert roll_out_order(facts, "emergency") == (["chat", "gate"], ["auth"])


def test_with_a_key_pair_each_phase_replaces_only_those_that_it_concerns():
    facts = resolved({**PAIR, "JWT_JWKS": {"chat", "gate"}}, algorithm="ES256")
    assert (facts["signers"], facts["verifiers"]) == (["auth"], ["chat", "gate"])
    services = {phase: phase_services(facts, phase) for phase in ("introduce", "promote", "retire", "emergency")}
    assert services == {
        "introduce": ["chat", "gate"],
        "promote": ["auth"],
        "retire": ["chat", "gate"],
        "emergency": ["auth", "chat", "gate"],
    }


def test_a_host_where_nobody_signs_is_not_given_the_private_key():
    slots = {"current": {**jwt_keys.make("ES256"), "created": "2026-01-01T00:00:00+00:00"}}
    everywhere = resolved(PAIR, algorithm="ES256")
    assert set(jwt_keys.values_at(everywhere, slots)) == {"JWT_SIGNING_KEY", "JWT_KEY_ID", "JWT_JWKS"}
    one = resolved({"JWT_JWKS": {"chat"}}, spread=True, algorithm="ES256")
    assert set(jwt_keys.values_at(one, slots)) == {"JWT_JWKS"}
    assert one["signers"] == []


def test_the_key_s_id_is_published_where_a_service_uses_it():
    assert resolved(PAIR, algorithm="EdDSA")["variables"]["kid"] == "JWT_KEY_ID"
    assert "kid" not in resolved({**PAIR, "JWT_KEY_ID": ()}, algorithm="EdDSA")["variables"]


def test_a_service_that_does_not_see_the_second_key_is_an_objection():
    used = {**SHARED, "JWT_SIGNING_KEY_SECONDARY": {"chat", "gate"}}
    [objection] = resolved(used)["objections"]
    assert "auth uses JWT_SIGNING_KEY and not JWT_SIGNING_KEY_SECONDARY" in objection["text"]
    assert "JWT_SIGNING_KEY_SECONDARY: ${JWT_SIGNING_KEY_SECONDARY:-}" in objection["text"]
    assert len(resolved({"JWT_SIGNING_KEY": {"auth", "chat"}})["objections"]) == 2
    # One that signs and never verifies needs none.
    assert resolved(used, signers=["auth"])["objections"] == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"algorithm": "HS512"}, "secrets_catalog.jwt.algorithm: 'HS512' is not known; write HS256 or RS256"),
        ({"service": "gate", "engine": "jwt"}, "secrets_catalog.jwt.service: not with engine jwt"),
        ({"grace": 5}, "secrets_catalog.jwt.grace: not with engine jwt"),
        ({"signers": "auth"}, "secrets_catalog.jwt.signers: must be a list of services"),
        ({"signers": ["mail"]}, "secrets_catalog.jwt.signers: mail does not use the key; there are auth, chat, gate"),
        ({"variables": {"jwks": "X"}}, "secrets_catalog.jwt.variables.jwks: not with HS256"),
        ({"interval": "15d"}, "secrets_catalog.jwt.interval: too short"),
        ({"token_life": "soon"}, "secrets_catalog.jwt.token_life: 'soon' is no duration"),
        ({"algorithm": "ES256"}, "secrets_catalog.jwt.variables.jwks: no service of /srv/demo uses JWT_JWKS"),
    ],
)
def test_what_cannot_be_meant_is_one_line(entry, said):
    with pytest.raises(SecretsError) as error:
        resolved(SHARED, **entry)
    assert error.value.message.startswith(said)


def test_keys_of_signing_keys_are_refused_elsewhere():
    with pytest.raises(SecretsError, match=r"secrets_catalog\.pg\.overlap: with engine jwt alone"):
        catalog.resolve("pg", checked_catalog({"pg": {"overlap": 5}})["pg"], SimpleNamespace(services={}))
