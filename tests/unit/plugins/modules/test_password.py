# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import generate
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.modules import password

DEFAULTS = {"kind": "password", "length": None, "min_classes": None, "min_entropy": None, "forbidden": "", "hashes": []}


def test_value_entropy_and_verifier_are_returned() -> None:
    result = password.password({**DEFAULTS, "hashes": ["scram_sha_256"]}, check_mode=False)
    assert len(result["value"]) == result["length"] == 32
    assert result["entropy_bits"] == 193.2
    assert generate.scram_matches(result["hashes"]["scram_sha_256"], result["value"])


def test_check_mode_generates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(generate.Policy, "draw")
    result = password.password({**DEFAULTS, "hashes": ["scram_sha_256"]}, check_mode=True)
    assert result == {"entropy_bits": 193.2, "length": 32}


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(
    "options", [{"length": 8}, {"kind": "token", "length": 80, "hashes": ["bcrypt"]}], ids=["policy", "hash"]
)
def test_what_cannot_be_met_is_refused_in_check_mode_too(options: dict, check_mode: bool) -> None:
    with pytest.raises(SecretsError):
        password.password({**DEFAULTS, **options}, check_mode)
