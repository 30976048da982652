# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.jwt import Policy, policy_of
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_schedule
from ansible_collections.chat4all.secrets.plugins.plugin_utils.jwt_keys import values
from ansible_collections.chat4all.secrets.plugins.plugin_utils.jwt_schedule import begun, chosen, ended, lost

START = datetime(2026, 1, 1, 3, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SERVICES = ("api-gateway", "message-service", "user-service")
VARIABLES = {"key": "PRIMARY", "secondary": "SECONDARY"}
FOREVER = datetime.max.replace(tzinfo=UTC)


class Simulation:
    """A deployment that lives 400 days with a run a day, some of which are missed; its services move one by one.

    A service signs with its first key and accepts both. A roll-out takes up to two hours; one in five fails half-way
    and goes back.
    """

    def __init__(self, seed, policy):
        self.random, self.policy = random.Random(seed), policy
        self.made = 0
        self.slots = {"current": self.key(START)}
        self.created = {"k1": START}
        # From when on a service has which variables.
        self.history = {name: [(START, values(VARIABLES, self.slots))] for name in SERVICES}
        self.steps = []
        # Runs with a phase due that were missed or failed, by the key that signed then: its successor is late by them. So
        # is the one after that where retire, late too, keeps it waiting.
        self.missed = defaultdict(int)
        self.failed = 0

    def key(self, now):
        self.made += 1
        return {"user": f"k{self.made}", "password": f"k{self.made}", "created": now.isoformat()}

    def live(self):
        misses = 0
        for day in range(1, 401):
            now = START + day * DAY + self.random.uniform(-2, 2) * HOUR
            phase = chosen(self.slots, self.policy, now)
            # Runs are missed in stretches of up to ten days.
            if not misses and self.random.random() < 0.08:
                misses = self.random.randint(1, 10)
            if misses:
                misses -= 1
                self.miss(phase)
                continue
            if phase:
                self.run(phase, now)
        return self

    def miss(self, phase):
        if phase:
            self.missed[self.slots["current"]["user"]] += 1
        if phase == "promote":
            self.missed[self.slots["next"]["user"]] += 1

    def run(self, phase, now):
        made = None
        if phase == "introduce":
            made = self.key(now)
            self.created[made["user"]] = now
        target = begun(self.slots, phase, made, {"user": "spare", "password": "spare"})
        fails = self.random.random() < 0.2
        moved = SERVICES[: self.random.randint(0, 2)] if fails else SERVICES
        now = self.roll(moved, target, now)
        self.steps.append((phase, now, fails))
        if fails:
            self.failed += 1
            self.miss(phase)
            self.roll(moved, self.slots, now)
        else:
            self.slots = ended(target, phase, now)

    def roll(self, services, slots, now):
        for name in self.random.sample(services, len(services)):
            now += self.random.uniform(0, 20) * HOUR / 60
            self.history[name].append((now, values(VARIABLES, slots)))
        return now

    def spans(self, name):
        """Yield from when to when a service had which variables."""
        ends = [begin for begin, _values in self.history[name][1:]] + [FOREVER]
        for (begin, found), end in zip(self.history[name], ends, strict=True):
            yield begin, end, found

    def signing(self):
        """Return when each key was signed with: all spans, over all services."""
        found = defaultdict(list)
        for name in SERVICES:
            for begin, end, given in self.spans(name):
                found[given["PRIMARY"]].append((begin, end))
        return found

    def rejected(self):
        """Return every token that some service rejects while it lives: the key, the service, and when."""
        bad = []
        for key, spans in self.signing().items():
            for name in SERVICES:
                for begin, end, given in self.spans(name):
                    if key in (given["PRIMARY"], given.get("SECONDARY")):
                        continue
                    # Who keeps a document for a while goes on without the keys of a later one.
                    until = min(end, FOREVER - self.policy.cache) + self.policy.cache
                    # A token lives from its signature until its life and the clocks' difference are over.
                    for signed, stopped in spans:
                        lives = FOREVER if stopped == FOREVER else stopped + self.policy.outlives
                        if signed < until and begin < lives:
                            bad.append((key, name, begin))
        return bad


POLICIES = [
    Policy(interval=timedelta(days=90)),
    Policy(interval=timedelta(days=60), overlap=timedelta(days=14), token_life=timedelta(days=20)),
    Policy(interval=timedelta(days=30), overlap=timedelta(days=3), token_life=timedelta(minutes=15), cache=DAY),
    Policy(interval=timedelta(days=30), overlap=DAY, token_life=timedelta(minutes=15), cache=DAY),
    Policy(interval=timedelta(days=20), overlap=timedelta(0), token_life=HOUR),
    Policy(),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_no_token_is_rejected_and_no_key_is_older_than_its_policy_in_400_days_with_missed_runs(policy):
    turns = 0
    for seed in range(150):
        world = Simulation(seed, policy).live()
        assert world.rejected() == [], seed
        turns += sum(phase == "promote" and not failed for phase, _at, failed in world.steps)
        for key, spans in world.signing().items():
            last = min(max(end for _begin, end in spans), START + 400 * DAY)
            assert last - world.created[key] <= policy.interval + world.missed[key] * DAY, (seed, key)
    assert turns > 100


def test_without_missed_runs_each_phase_has_its_date():
    policy = Policy(interval=timedelta(days=90), token_life=timedelta(days=2))
    world = Simulation(0, policy)
    days = {}
    for day in range(1, 200):
        now = START + day * DAY
        phase = chosen(world.slots, policy, now)
        if phase:
            target = begun(world.slots, phase, world.key(now), None)
            world.slots = ended(target, phase, now + timedelta(minutes=30))
            days.setdefault(phase, []).append(day)
    # Due on day 90: introduced seven days before, and a day and a half in hand.
    assert days == {"introduce": [82, 164], "promote": [89, 171], "retire": [92, 174]}


def test_a_key_that_others_may_know_is_replaced_from_now_on():
    weak = slots(current={"weak": "is still a placeholder"})
    assert chosen(weak, Policy(), START) == "introduce"
    assert chosen(slots(current={}), Policy(), START) == ""


def slots(**labels):
    return {
        label: {"user": label, "password": label, "created": START.isoformat(), **dates}
        for label, dates in labels.items()
    }


def test_a_forced_phase_that_would_invalidate_tokens_is_refused_and_says_what_it_costs():
    policy = Policy(cache=HOUR, token_life=2 * HOUR, skew=timedelta(0))
    early = START + timedelta(minutes=30)
    promoted = slots(current={}, previous={"replaced": START.isoformat()})
    with pytest.raises(SecretsError, match=r"retire now .* those of 90 minutes, .*accept_invalid_tokens=true"):
        chosen(promoted, policy, early, "retire")
    assert chosen(promoted, policy, early, "retire", accept=True) == "retire"
    assert chosen(promoted, policy, START + 2 * HOUR, "retire") == "retire"
    introduced = slots(current={}, next={"introduced": START.isoformat()})
    with pytest.raises(SecretsError, match=r"promote now .* in the next 30 minutes, at verifiers"):
        chosen(introduced, policy, early, "promote")
    assert chosen(introduced, policy, START + HOUR, "promote") == "promote"


def test_a_phase_is_never_skipped_whatever_is_accepted():
    with pytest.raises(SecretsError, match="promote: introduce comes first"):
        chosen(slots(current={}), Policy(), START, "promote", accept=True)
    with pytest.raises(SecretsError, match="retire: promote comes first"):
        chosen(slots(current={}, next={"introduced": START.isoformat()}), Policy(), START, "retire", accept=True)


def test_a_phase_that_was_forced_before_is_done():
    assert chosen(slots(current={}), Policy(), START, "retire") == ""
    assert chosen(slots(current={}, next={"introduced": START.isoformat()}), Policy(), START, "introduce") == ""
    assert chosen(slots(current={}, previous={"replaced": START.isoformat()}), Policy(), START, "promote") == ""


def test_an_old_key_is_not_dropped_for_a_third_one():
    busy = slots(current={}, previous={"replaced": START.isoformat()})
    with pytest.raises(SecretsError, match="introduce: retire comes first"):
        chosen(busy, Policy(), START, "introduce", accept=True)


def test_an_emergency_drops_every_known_key_and_says_what_that_costs():
    before = slots(current={}, next={"introduced": START.isoformat()})
    after = begun(before, jwt_schedule.EMERGENCY, {"password": "new"}, {"password": "spare"})
    assert values(VARIABLES, after) == {"PRIMARY": "new", "SECONDARY": "spare"}
    policy = Policy(token_life=HOUR)
    assert "last 60 minutes" in lost(before, policy, START + DAY, jwt_schedule.EMERGENCY)
    assert "last 10 minutes" in lost(before, policy, START + timedelta(minutes=10), jwt_schedule.EMERGENCY)
    # One that was in use before it was known may have signed all that lives.
    imported = slots(current={"imported": True})
    assert "last 60 minutes" in lost(imported, policy, START + timedelta(minutes=10), jwt_schedule.EMERGENCY)
    cached = Policy(token_life=HOUR, cache=2 * HOUR)
    assert "for 120 minutes at verifiers" in lost(before, cached, START + DAY, jwt_schedule.EMERGENCY)


def test_a_policy_whose_phases_would_meet_is_refused():
    with pytest.raises(SecretsError, match=r"secrets_catalog\.jwt\.interval: too short"):
        policy_of("jwt", {"interval": 15 * 86400})
    with pytest.raises(SecretsError, match=r"overlap: must not be less than cache"):
        policy_of("jwt", {"cache": 8 * 86400})
