# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is shown and compared: tables for a terminal in 100 columns, and what ``--check`` had announced."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

ROWS = (
    ("rotations", "rotations"),
    ("login attempts", "attempts"),
    ("refused logins", "refused_logins"),
    ("HTTP requests", "http_requests"),
    ("failed HTTP requests", "http_failures"),
    ("direct calls", "direct_calls"),
    ("failed direct calls", "direct_failures"),
    ("longest gap (s)", "longest_gap_s"),
    ("seconds", "seconds"),
    ("seconds per rotation", "median_s"),
    ("recreated by next up -d", "recreated_by_next_up"),
)


def figure(value: Any) -> str:
    """Return one cell."""
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}"


def arms_table(arms: Mapping[str, Mapping[str, Any]], rows: Sequence[tuple[str, str]] = ROWS) -> str:
    """Return the arms side by side, one figure per row; a figure that no arm has is left out."""
    shown = [(title, key) for title, key in rows if any(key in figures for figures in arms.values())]
    first = max(len(title) for title, _key in shown)
    widths = {name: max(len(name), 9) for name in arms}
    lines = [" " * first + "".join(f"  {name:>{widths[name]}}" for name in arms)]
    for title, key in shown:
        cells = "".join(f"  {figure(figures.get(key)):>{widths[name]}}" for name, figures in arms.items())
        lines.append(f"{title:<{first}}{cells}")
    return "\n".join(lines)


def announced(plan: str, service: str) -> str:
    """Return how the plan of ``--check`` says that a service is replaced: its row, without the evidence."""
    row = re.search(rf"(?m)^ +(?:\d+ +)?{re.escape(service)}(?: x\d+)? +(\S.*)$", plan)
    return re.split(r"  +", row[1])[0] if row else "not mentioned"
