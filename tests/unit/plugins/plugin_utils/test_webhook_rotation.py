# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A webhook's secret: the platform never sends what a service does not accept, whatever happens in between."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import serverless
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import Rotation, phase_of

VARIABLE, BEFORE = "TELEGRAM_WEBHOOK_SECRET", "TELEGRAM_WEBHOOK_SECRET_PREVIOUS"


def slot(password, **more):
    return {"user": "", "password": password, "created": "2026-01-01T00:00:00+00:00", **more}


class Killed(BaseException):
    """What ends a run is not always an error."""


class World:
    """Two services, the platform and ``.env``; after every event what is sent must be accepted everywhere."""

    def __init__(self, monkeypatch, **entry):
        self.entry = {"engine": "webhook", "role": "", "current": slot("one"), **entry}
        self.sent, self.env = "one", {VARIABLE: "one", BEFORE: ""}
        self.services = {"a": dict(self.env), "b": dict(self.env)}
        self.fail = ""
        self.events = []
        self.left = -1  # changes until the run is killed; never
        facts = {
            "name": "hook",
            "platform": {"platform": "telegram"},
            "token": "telegram",
            "grace": 0,
            "strategy": "overlap",
            "generate": {"kind": "uuid4"},
            "variables": {"password": VARIABLE},
            "previous_variable": BEFORE,
            "consumers": ["a", "b"],
        }
        host = SimpleNamespace(module=self.module, state_dir="/srv/.chat4all")
        stored = {"hook": self.entry}
        deployment = SimpleNamespace(
            host="db1",
            arguments={"catalog": {"hook": {"engine": "webhook"}}, "services": {}},
            store=SimpleNamespace(
                change=lambda mutator: (mutator(stored), self.live()), fingerprint=lambda _value: "f"
            ),
            stored=lambda name: {"current": slot("123:token")} if name == "telegram" else {},
            entry=lambda name: {
                key: dict(value) if isinstance(value, dict) else value for key, value in stored[name].items()
            },
            places=lambda _facts: [(host, {"host": "db1"})],
            holder=lambda rotation: {"rotation": rotation},
            state=lambda _action, **_kept: {},
            line=lambda *_arguments: None,
        )
        opened = {"rotation": "r-new", "purpose": "rotate", "phase": "new", "facts": facts}
        arguments = {"opened": opened, "skip_services": [], "purpose": "rotate", "drift": "refuse"}
        self.rotation = serverless.rotation_of(deployment, "hook", arguments)
        self.rotation.skipped = lambda _facts: set(arguments["skip_services"])
        self.rotation._end = lambda *_arguments, **_more: None
        self.rotation._release = lambda *_arguments, **_more: {}
        monkeypatch.setattr(Rotation, "_publish", lambda rotation, label, *_more, **_kept: self.publish(facts, label))
        monkeypatch.setattr(Rotation, "_replace", lambda rotation, step, label: self.replace())

    def module(self, name, **arguments):
        if self.fail == "platform":
            raise SecretsError("Telegram limits the rate of calls now")
        if name == "webhook_credential_info":
            return {"status": "accepted", "reason": "", "url": "https://chat.example.org"}
        self.sent = arguments["credential"]["password"]
        if self.fail == "refused" and self.sent != "one":
            self.events.append("tell")
            raise SecretsError("Telegram was refused by the webhook: 401", refused=True)
        return self.check("tell")

    def publish(self, facts, label):
        self.env = Deployment.env_values(
            SimpleNamespace(slot_values=Deployment.slot_values, _value_before=Deployment._value_before),
            facts,
            self.entry,
            self.entry[label],
        )
        return self.check("publish")

    def replace(self):
        for name in self.services:
            self.services[name] = dict(self.env)
            self.check(f"replace {name}")
            if self.fail == f"after {name}":
                self.fail = ""
                raise SecretsError(f"the service after {name} does not start")
        return []

    def live(self):
        """Count a change that has been made; the run may be killed just after."""
        self.left -= 1
        if not self.left:
            raise Killed

    def check(self, event):
        self.events.append(event)
        refusing = [name for name, env in self.services.items() if self.sent not in env.values()]
        assert not refusing, f"{self.events}: {refusing} refuse what is sent"
        self.live()

    def run(self, *steps):
        for step in steps:
            getattr(self.rotation, step)()


FORWARD = ("create", "set", "test", "publish", "roll_out", "drain", "finish", "revoke")


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(Rotation, "publish", lambda rotation: rotation._publish("pending", "current"))
    monkeypatch.setattr(Rotation, "roll_out", lambda rotation: rotation._replace("roll_out", "pending"))
    return World(monkeypatch)


def rerun(world):
    """What the same command does after a run that was killed."""
    phase = world.rotation.opened["phase"] = phase_of(world.entry)
    assert phase != "grace"
    world.run(*{"forward": FORWARD, "revoke": ("drain", "revoke"), "new": ()}[phase])


def test_a_run_that_is_killed_after_any_change_is_finished_by_the_next(monkeypatch, world):
    kills = 0
    while True:
        kills += 1
        one = World(monkeypatch)
        one.left = kills
        try:
            one.run(*FORWARD)
            break
        except Killed:
            rerun(one)
        new = one.entry["current"]["password"]
        assert one.sent == new != "one" and one.entry["previous"]["revoked"], one.events
        assert one.services == {name: {VARIABLE: new, BEFORE: ""} for name in ("a", "b")}, one.events
    # Stored, published, two replaced, and what follows.
    assert kills > 12


def test_going_back_that_is_killed_after_any_change_is_finished_by_the_next(monkeypatch, world):
    kills = 0
    while True:
        kills += 1
        one = World(monkeypatch)
        one.run(*FORWARD[:6])
        one.left = kills
        try:
            one.rotation._go_back(one.entry["pending"], "drain")
            break
        except Killed:
            if "pending" in one.entry:
                one.rotation._go_back(one.entry["pending"], "back")
        assert one.sent == "one" and "pending" not in one.entry, one.events
        assert one.services == {name: {VARIABLE: "one", BEFORE: ""} for name in ("a", "b")}, one.events
    assert kills > 6


def test_what_is_sent_is_accepted_at_every_moment_and_the_old_secret_ends(world):
    world.run(*FORWARD)
    new = world.entry["current"]["password"]
    assert len(new) == 36 and world.sent == new and "told" not in world.entry["current"]
    assert world.services == {name: {VARIABLE: new, BEFORE: ""} for name in ("a", "b")}
    assert world.entry["previous"]["revoked"]


def test_the_check_of_these_tests_sees_a_secret_that_is_sent_too_early(world):
    world.run("create")
    with pytest.raises(AssertionError, match=r"\['tell'\]: \['a', 'b'\] refuse what is sent"):
        world.run("drain")


def test_a_roll_out_that_fails_goes_back_without_the_platform(world):
    world.fail = "after a"
    with pytest.raises(SecretsError):
        world.run(*FORWARD[:5])
    world.rotation._go_back(world.entry["pending"], "roll_out")
    assert "tell" not in world.events and world.env == {VARIABLE: "one", BEFORE: ""} and "pending" not in world.entry


def test_the_way_back_after_the_platform_was_told_tells_it_again_first(world):
    world.run(*FORWARD[:6])
    world.rotation._go_back(world.entry["pending"], "drain")
    assert world.sent == "one" and world.services == {name: {VARIABLE: "one", BEFORE: ""} for name in ("a", "b")}
    assert world.events.count("tell") == 2


def test_a_platform_that_cannot_be_told_leaves_both_accepted(world):
    world.run(*FORWARD[:5])
    world.fail = "platform"
    with pytest.raises(SecretsError, match="limits the rate"):
        world.run("drain")
    new = world.entry["pending"]["password"]
    assert world.sent == "one" and all(set(env.values()) == {"one", new} for env in world.services.values())
    world.fail = ""
    world.run("drain", "finish", "revoke")
    assert world.sent == new


def test_a_webhook_that_refuses_the_new_secret_gets_the_old_one_again(world):
    world.run(*FORWARD[:5])
    world.fail = "refused"
    with pytest.raises(SecretsError, match="was refused by the webhook"):
        world.run("drain")
    assert phase_of(world.entry) == "back"
    deployment = world.rotation.deployment
    deployment.state = lambda _action, **_kept: {"record": {"step": "drain", "reason": "refused"}}
    deployment.show = lambda *_arguments, **_more: None
    assert world.rotation.back()["failed"]
    assert world.sent == "one" and "pending" not in world.entry
    # The platform first, then .env and the services.
    assert world.events[-5:] == ["tell", "tell", "publish", "replace a", "replace b"]


def test_a_connector_that_knows_no_secret_before_ends_where_it_was(world):
    """From the roll-out on it refuses what is sent, and the platform says so once it is told the new secret."""
    world.run(*FORWARD[:5])
    world.services["b"][BEFORE] = ""
    world.fail = "refused"
    with pytest.raises(SecretsError, match="was refused by the webhook"):
        world.run("drain")
    deployment = world.rotation.deployment
    deployment.state = lambda _action, **_kept: {"record": {"step": "drain", "reason": "refused"}}
    deployment.show = lambda *_arguments, **_more: None
    world.check = world.events.append
    assert world.rotation.back()["failed"]
    assert world.sent == "one" and world.services == {name: {VARIABLE: "one", BEFORE: ""} for name in ("a", "b")}


def test_a_service_that_would_refuse_is_not_skipped(world):
    world.rotation.arguments["skip_services"].append("a")
    for phase in ("new", "forward"):
        with pytest.raises(SecretsError, match="a must not be skipped: it would refuse what Telegram sends then"):
            world.rotation._check_logins({}, world.entry, world.rotation.facts, phase)
    assert not world.events


def test_the_old_secret_stays_accepted_for_its_grace(world):
    world.rotation.facts["grace"] = 3600
    world.run(*FORWARD[:7])
    assert world.entry["previous"]["revoke_after"] and "one" in world.services["a"].values()
    facts = world.rotation.facts
    assert Deployment._value_before(facts, world.entry, world.entry["current"]) == {BEFORE: "one"}


def test_the_call_needs_the_platforms_token(world):
    world.rotation.facts["token"] = "missing"
    with pytest.raises(SecretsError, match="called with the value of missing, which the store does not have"):
        world.rotation._check_logins({}, world.entry, world.rotation.facts, "new")


@pytest.mark.parametrize("sent", ["one", "zero"])
def test_of_two_imported_secrets_the_platform_is_told_which_one_before_the_other_ends(world, sent):
    world.entry["previous"] = slot("zero", rotation="r-old", revoke_after="2026-01-01T00:00:00+00:00", imported=True)
    world.sent = sent
    for env in world.services.values():
        env[BEFORE] = "zero"
    assert phase_of(world.entry) == "revoke_first"
    world.run("drain", "revoke")
    assert world.sent == "one" and world.events[0] == "tell" and world.entry["previous"]["revoked"]
    assert world.services == {name: {VARIABLE: "one", BEFORE: ""} for name in ("a", "b")}
