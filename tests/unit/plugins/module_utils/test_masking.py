# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import urllib.parse

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import MASK, Masker

SECRET = 'p"a/s s$w%rd-ünïcode'


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        base64.b64encode(SECRET.encode()).decode(),
        urllib.parse.quote(SECRET, safe=""),
        SECRET.encode().hex(),
        SECRET.replace('"', '\\"'),
    ],
)
def test_every_form_of_a_value_is_masked(shown):
    assert Masker([SECRET]).mask(f"before {shown} after") == f"before {MASK} after"


def test_a_value_that_contains_another_leaves_no_remainder():
    assert Masker(["secret", "secret-and-more"]).mask("x secret-and-more y") == f"x {MASK} y"


def test_short_values_would_mask_ordinary_words():
    assert Masker(["a", "user", None, ""]).mask("a user") == "a user"
