# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the benchmark of signing keys promises of its figures, and that none of it can be kept by chance."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("benchmarks", "stack")]

from signing_keys import promised  # noqa: E402

FIGURES = {
    "verified": 30000,
    "rejected": 0,
    "missed": 10,
    "least_verified_of_one_signer_by_one_service": 4000,
    "seconds": 60.0,
    "old_key_afterwards": {"verified": 0, "rejected": 60},
    "new_key_afterwards": {"verified": 60, "rejected": 0},
}
SEED = {**FIGURES, "rejected": 4000}


def kept(**arms):
    return [kept for _text, kept in promised(arms)]


def test_good_figures_keep_every_promise():
    assert kept(seed_procedure=SEED, three_phases_hs256=FIGURES) == [True] * 6


@pytest.mark.parametrize(
    "bad",
    [
        {"rejected": 1},
        {"missed": 5000},
        {"least_verified_of_one_signer_by_one_service": 0},
        {"old_key_afterwards": {"verified": 1, "rejected": 59}},
        {"new_key_afterwards": {"verified": 0, "rejected": 60}},
    ],
)
def test_each_bad_figure_breaks_one(bad):
    assert kept(three_phases_es256={**FIGURES, **bad}).count(False) == 1


def test_a_control_that_rejects_nothing_is_none():
    assert kept(seed_procedure=FIGURES).count(False) == 1
