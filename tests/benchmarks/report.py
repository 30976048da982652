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

# The ratios, by the medians of their rounds, and how many logins 20 rotations must have seen at least.
BEYOND_STARTUP = "(alternating_users - Ansible start-up) / shell_start_first"
PLAIN = "plain_playbook / alternating_users"
CONSUMERS = "twelve consumers / three consumers"
ATTEMPTS_PER_ROTATION = 10_000 / 20


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
    """Return how the plan of ``--check`` says that a service is replaced, and what those see who call it directly."""
    row = re.search(rf"(?m)^ +(?:\d+ +)?{re.escape(service)}(?: x\d+)? +(\S.*)$", plan)
    found = [re.split(r"  +", row[1])[0]] if row else []
    direct = re.search(rf"(?m)^ +direct +(.*calls {re.escape(service)} by its name.*(?:\n {{11,}}.*)*)", plan)
    found += [" ".join(direct[1].split())] if direct else []
    return "; ".join(found) or "not mentioned"


def promised(figures: Mapping[str, Any], rotations: int) -> list[tuple[str, bool]]:
    """Return what the rotation promises, with its figure, and whether it is kept; only of arms that were measured."""
    arms, found = figures["arms"], []
    measured = {f"alternating_users, {count} consumers": each for count, each in figures["consumers"].items()}
    for name, each in measured.items():
        for key, text in (("refused_logins", "refused logins"), ("http_failures", "failed HTTP requests")):
            found.append((f"{name}: {each[key]} {text} in {each['rotations']} rotations", each[key] == 0))
        tries = each["negative_probes"]
        found.append((f"{name}: {tries} tries of an old password were refused", tries >= each["rotations"]))
        for moment, services in each["recreated_services"].items():
            text = f"{len(services)} containers recreated by a plain up -d {moment.replace('_', ' ')}"
            found.append((f"{name}: {text}", not services))
    if "alternating_users" in arms and rotations:
        attempts, needed = arms["alternating_users"]["attempts"], int(rotations * ATTEMPTS_PER_ROTATION)
        found.append((f"alternating_users: {attempts:,} login attempts, {needed:,} needed", attempts >= needed))
    if arms.get("seed_procedure", {}).get("rotations"):
        refused = arms["seed_procedure"]["refused_logins"]
        found.append((f"seed_procedure: {refused} refused logins, so the measurement shows them", refused > 0))
    limits = {BEYOND_STARTUP: ("at most 1.5", lambda r: r <= 1.5), PLAIN: ("more than 1", lambda r: r > 1)}
    limits[CONSUMERS] = ("at most 2", lambda r: r <= 2)
    for name, (text, within) in limits.items():
        ratio = figures["ratios"].get(name)
        if ratio is not None:
            found.append((f"{name}: {ratio:.2f}, {text}", within(ratio)))
    return found
