# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.first_start import renamed

NAMES = {"POSTGRES_USER": "INIT_POSTGRES_USER", "POSTGRES_PASSWORD": "INIT_POSTGRES_PASSWORD"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("${POSTGRES_PASSWORD}", "${INIT_POSTGRES_PASSWORD}"),
        ("${POSTGRES_USER:-chat4all}", "${INIT_POSTGRES_USER:-chat4all}"),
        ("$POSTGRES_USER", "$INIT_POSTGRES_USER"),
        ("pg_isready -U ${POSTGRES_USER} -d db", "pg_isready -U ${INIT_POSTGRES_USER} -d db"),
        ("$$POSTGRES_USER", None),
        ("$$${POSTGRES_USER}", "$$${INIT_POSTGRES_USER}"),
        ("${POSTGRES_USERNAME}", None),
        ("${POSTGRES_DB}", None),
        (5, None),
    ],
)
def test_only_references_to_the_variables_are_renamed(text, wanted):
    assert renamed(text, NAMES) == wanted


def test_what_has_no_reference_is_left_out():
    config = {"POSTGRES_DB": "${POSTGRES_DB}", "POSTGRES_USER": "${POSTGRES_USER}"}
    assert renamed(config, NAMES) == {"POSTGRES_USER": "${INIT_POSTGRES_USER}"}
    assert renamed(["CMD", "pg_isready", "-U", "$POSTGRES_USER"], NAMES) == [
        "CMD",
        "pg_isready",
        "-U",
        "$INIT_POSTGRES_USER",
    ]
    assert renamed({"test": ["CMD", "true"]}, NAMES) is None
