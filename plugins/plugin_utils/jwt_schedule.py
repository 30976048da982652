# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a signing key is introduced, promoted and retired, and what that makes of its slots. Pure functions.

A run a day is taken for granted: *introduce* comes so early that the daily runs, each at its hour, have *promote* done
when the key is due, and *promote* falls to the run nearest to the end of the overlap. What protects live tokens is
never early: nobody signs with a key before everybody verifies with it, and a key is retired when the last token that it
has signed is dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.jwt import Policy
from ansible_collections.chat4all.secrets.plugins.plugin_utils.jwt_keys import SLOTS

PHASES = ("introduce", "promote", "retire")
EMERGENCY = "emergency"

# A run that comes a day later and half a day off its hour still comes in time.
LEAD = timedelta(hours=36)
HOUR_OFF = timedelta(hours=12)


@dataclass(frozen=True)
class Step:
    """The next phase; ``due``: the date of the schedule; ``safe``: from when on it makes no live token invalid."""

    phase: str
    due: datetime
    safe: datetime


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def next_step(slots: Mapping[str, Any], policy: Policy) -> Step:
    """Return the phase that comes next, and when."""
    if slots.get("previous"):
        safe = moment(slots["previous"]["replaced"]) + policy.outlives
        return Step("retire", safe, safe)
    if slots.get("next"):
        introduced = moment(slots["next"]["introduced"])
        safe = introduced + policy.cache
        return Step("promote", max(introduced + policy.overlap - min(HOUR_OFF, policy.overlap / 2), safe), safe)
    created = moment(slots["current"]["created"])
    due = created + policy.interval - policy.wait - LEAD
    if slots["current"].get("weak"):
        due = created
    return Step("introduce", due, created)


def chosen(slots: Mapping[str, Any], policy: Policy, now: datetime, forced: str = "", accept: bool = False) -> str:
    """Return the phase that a run has to carry out, or nothing; raises for a forced one that must not be.

    One that was the last to be carried out is done: so the same command, run again, ends well.
    ``accept``: the user has said that live tokens may become invalid.
    """
    step = next_step(slots, policy)
    if not forced:
        return step.phase if now >= step.due else ""
    if forced == PHASES[PHASES.index(step.phase) - 1]:
        return ""
    if forced != step.phase:
        raise SecretsError(f"{forced}: {step.phase} comes first ({step.due.date().isoformat()})" + _why(forced))
    if now < step.safe and not accept:
        raise SecretsError(
            f"{forced} now would invalidate live tokens: {lost(slots, policy, now, forced)}; wait until "
            f"{step.safe.isoformat()}, or accept that: -e accept_invalid_tokens=true"
        )
    return forced


def _why(forced: str) -> str:
    if forced == "promote":
        return "; nobody verifies with a new key yet. For a compromised key: -e emergency=true"
    return ""


def lost(slots: Mapping[str, Any], policy: Policy, now: datetime, phase: str) -> str:
    """Return in words which live tokens a phase invalidates now; nothing where it invalidates none."""
    if phase == EMERGENCY:
        signers = [slots[label] for label in ("current", "previous") if slots.get(label)]
        age = now - min(moment(slot["created"]) for slot in signers)
        if any(slot.get("imported") for slot in signers):
            # It was in use before the date that is known.
            age = policy.token_life
        text = f"all that were signed in the last {minutes(min(policy.token_life, age))}"
        if policy.cache:
            text += (
                f", and the new key's for {minutes(policy.cache)} at verifiers that still use an older JWKS document"
            )
        return text
    step = next_step(slots, policy)
    if phase != step.phase or now >= step.safe:
        return ""
    if phase == "retire":
        return f"those of {minutes(step.safe - now)}, signed before the key was replaced"
    return f"those signed in the next {minutes(step.safe - now)}, at verifiers that still use an older JWKS document"


def minutes(span: timedelta) -> str:
    """Return a length of time in minutes, begun ones included."""
    count = max(0, -(-int(span.total_seconds()) // 60))
    return f"{count} minute" + ("" if count == 1 else "s")


def begun(
    slots: Mapping[str, Any], phase: str, made: Mapping[str, Any] | None, spare: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the slots as they are to be when a phase has ended.

    ``made``: the new key (*introduce*, emergency). ``spare``: what takes the second key's place where it has none.
    """
    kept = {label: dict(slots[label]) for label in SLOTS if slots.get(label)}
    filler = {"spare": dict(spare)} if spare else {}
    if phase == "introduce":
        kept.pop("spare", None)
        return {**kept, "next": dict(made or {})}
    if phase == "promote":
        return {"current": kept["next"], "previous": kept["current"]}
    if phase == "retire":
        return {"current": kept["current"], **filler}
    return {"current": dict(made or {}), **filler}


def ended(target: Mapping[str, Any], phase: str, now: datetime) -> dict[str, Any]:
    """Return the slots of a phase whose last service was replaced, with the date that the next one counts from."""
    slots = {label: dict(target[label]) for label in SLOTS if target.get(label)}
    if phase == "introduce":
        slots["next"]["introduced"] = now.isoformat()
    if phase == "promote":
        slots["previous"]["replaced"] = now.isoformat()
    return slots
