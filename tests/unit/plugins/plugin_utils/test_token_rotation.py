# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A platform's token: the platform is asked before anybody gets it, and only its own word proves a token dead."""

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.action.rotation_queue import with_next
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import seal
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report, serverless
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import Rotation, phase_of

OLD = {"whatsapp": "EAAJold-0123456789", "telegram": "123456:old-0123456789", "instagram": "IGAAold-0123456789"}
NEW = {"whatsapp": "EAAJnew-0123456789", "telegram": "123456:new-0123456789", "instagram": "IGAAnew-0123456789"}
ACCOUNTS = {"whatsapp": "106540352242922", "telegram": "123456", "instagram": "17841400000000001"}
UNKNOWN = {"status": "unknown", "reason": "The platform limits the rate of calls now; try again in 35 s"}
REJECTED = {"status": "rejected", "reason": "it does not know the token"}


DOWN = {"kind": "unhealthy", "text": "connector is restarting now"}


def accepted(platform, **more):
    return {"status": "accepted", "reason": "", "account": {"id": ACCOUNTS[platform], "name": "@chat"}, **more}


def slot(password, **more):
    return {"user": "", "password": password, "created": "2026-01-01T00:00:00+00:00", **more}


APP = ("app_id", "app_secret", "access_token")
BY_CALL = {"whatsapp": {"app_id": "1", "token": "app"}, "app": {"engine": "manual"}}


def token(platform="whatsapp", says=(), given="", entry=None, services=(), more=(), **arguments):
    """A rotation of a platform's token, and what it stores, notes, says and asks; ``says``: what of each token."""
    stored = {platform: entry or {"engine": platform, "current": slot(OLD[platform])}}
    seen = SimpleNamespace(stored=stored[platform], notes=[], lines=[], asked=[], ended=[])
    answers = {OLD[platform]: accepted(platform), NEW[platform]: accepted(platform), **dict(says)}

    def module(name, **params):
        if params.get("state") == "absent":
            seen.asked.append("end")
            assert [params[key] for key in APP] == ["1", "the app's secret", NEW[platform]]
            answers[params["credential"]["password"]] = REJECTED
            return {"changed": True, "login": REJECTED}
        if name == "api_token_credential":
            seen.asked.append("renew")
            return {"sealed": seal(bytes.fromhex(params["seal_key"]), NEW[platform].encode()), "expires_in": 5183944}
        seen.asked += [one["label"] for one in params["credentials"]]
        return {"logins": {one["label"]: dict(answers[one["password"]]) for one in params["credentials"]}}

    host = SimpleNamespace(module=module, state_dir="/srv/.chat4all")
    facts = {
        "name": platform,
        "engine": platform,
        "type": "person",
        "strategy": "manual",
        "platform": {"platform": platform},
        "grace": 7 * 86400,
        "interval": 180 * 86400,
        "variables": {"password": "TOKEN"},
        "consumers": ["connector"],
        "ready_log": "Connected",
        "plan": {"waves": [[{"service": "connector", "mode": "start_first", "reason": ""}]], "refusals": [DOWN]},
        "places": [{"host": "db1", "env_file": "/srv/.env", "consumers": ["connector"]}],
    }
    deployment = SimpleNamespace(
        host="db1",
        arguments={"catalog": {platform: {}}, "services": dict(services), **dict(more)},
        task_vars={"secrets_new_values": {platform: given}} if given else {},
        action=SimpleNamespace(_templar=SimpleNamespace(template=lambda value: value)),
        store=SimpleNamespace(change=lambda mutator: mutator(stored), fingerprint=lambda _value: "f"),
        places=lambda _facts: [(host, facts["places"][0])],
        hosts=[host],
        is_spread=False,
        entry=lambda name: {
            key: dict(value) if isinstance(value, dict) else value for key, value in stored[name].items()
        },
        stored=lambda name: stored.get(name, {}),
        memory=lambda: {"records": []},
        catalog_info=lambda _names: {"credentials": {platform: facts}},
        require_discretion=lambda: None,
        holder=lambda rotation: {"rotation": rotation},
        state=lambda _action, **kept: seen.notes.extend(kept["ledger"]),
        line=lambda step, text: seen.lines.append(f"{step}: {text}"),
    )
    opened = {"rotation": "r-new", "purpose": "rotate", "phase": "new", "facts": facts}
    defaults = {"opened": opened, "skip_services": [], "confirmed": False, "purpose": "rotate", "drift": "refuse"}
    rotation = serverless.rotation_of(deployment, platform, {**defaults, **arguments})
    rotation._end = lambda *_arguments, **more: seen.ended.append(more)
    rotation.skipped = lambda _facts: set()
    return rotation, seen


def look(rotation, seen, phase="new"):
    """What *open* does with the tokens, once everything else is in order."""
    logins = rotation.log_in(rotation.facts, seen.stored, "current", "pending")["logins"]
    rotation._check_logins(logins, seen.stored, rotation.facts, phase)
    rotation._refuse(rotation.facts, {}, phase == "forward")


@pytest.fixture(autouse=True)
def in_order(monkeypatch):
    monkeypatch.setattr(Rotation, "_refuse", lambda *_arguments, **_more: None)


EACH = pytest.mark.parametrize("platform", sorted(OLD))


@EACH
@pytest.mark.parametrize("answer", [REJECTED, UNKNOWN])
def test_a_new_token_that_is_not_accepted_is_refused_before_anything_is_stored(platform, answer):
    rotation, seen = token(platform, {NEW[platform]: answer}, given=NEW[platform])
    with pytest.raises(SecretsError, match="nothing is published") as refused:
        look(rotation, seen)
    assert "pending" not in seen.stored and NEW[platform] not in refused.value.message


@EACH
def test_an_accepted_token_is_stored_then_tried_again_before_it_is_published(platform):
    rotation, seen = token(platform, given=NEW[platform])
    look(rotation, seen)
    assert rotation.create()["changed"] and seen.stored["pending"]["password"] == NEW[platform]
    rotation.test()
    assert "test: " in seen.lines[-1] and "accepts it: @chat" in seen.lines[-1]
    assert "renew" not in seen.asked and NEW[platform] not in repr((seen.notes, seen.lines))


@pytest.mark.parametrize("answer", [REJECTED, UNKNOWN])
def test_a_token_that_died_meanwhile_is_not_published(answer):
    entry = {"engine": "whatsapp", "current": slot(OLD["whatsapp"]), "pending": slot(NEW["whatsapp"])}
    with pytest.raises(SecretsError, match="nothing is published"):
        token("whatsapp", {NEW["whatsapp"]: answer}, entry=entry)[0].test()


def test_a_platform_that_cannot_be_asked_ends_the_run_at_open():
    both = {OLD["telegram"]: UNKNOWN, NEW["telegram"]: UNKNOWN}
    rotation, seen = token("telegram", both, given=NEW["telegram"])
    with pytest.raises(SecretsError, match="telegram: The platform limits the rate of calls now"):
        look(rotation, seen)
    renewing, seen = token("instagram", {OLD["instagram"]: UNKNOWN})
    with pytest.raises(SecretsError, match="instagram: The platform limits the rate of calls now"):
        look(renewing, seen)


@EACH
def test_of_a_token_that_is_brought_itself_is_asked_about_alone(platform):
    rotation, seen = token(platform, {OLD[platform]: UNKNOWN}, given=NEW[platform])
    look(rotation, seen)
    assert rotation.create()["changed"] and rotation.facts["plan"]["refusals"] == [DOWN]
    assert rotation._greeting("", False).endswith("gives no clear answer about the present token")


def test_an_unclear_present_token_does_not_stop_an_earlier_ones_end():
    rotation, _seen = token("whatsapp", {OLD["whatsapp"]: UNKNOWN}, given=NEW["whatsapp"])
    rotation.opened["phase"] = "revoke_first"
    assert rotation.drain() == {"changed": False}


def test_what_is_no_bots_token_is_refused():
    rotation, seen = token("telegram", {"garbage-0123456789": accepted("telegram")}, given="garbage-0123456789")
    with pytest.raises(SecretsError, match="is no token of a bot"):
        look(rotation, seen)


def test_another_bots_token_is_refused():
    other = "999:new-0123456789"
    rotation, seen = token(
        "telegram", {other: {**accepted("telegram"), "account": {"id": "999", "name": "@x"}}}, given=other
    )
    with pytest.raises(SecretsError, match=r"that of another bot, @x \(999\), not of 123456"):
        look(rotation, seen)


def test_instagrams_token_is_renewed_and_stored_before_anything_else():
    rotation, seen = token("instagram")
    look(rotation, seen)
    assert "renew" not in seen.asked
    assert rotation.create()["changed"] and seen.stored["pending"]["password"] == NEW["instagram"]
    assert rotation.facts["about"]["by_hand"] == "none      the old token runs out by itself"
    assert [note["step"] for note in seen.notes] == ["open", "create"]
    assert rotation.create() == {"changed": False} and seen.asked.count("renew") == 1
    dead, seen = token("instagram", {OLD["instagram"]: REJECTED})
    with pytest.raises(SecretsError, match="so it cannot renew it; have a new one issued"):
        look(dead, seen)


def test_where_nothing_renews_it_a_person_brings_it():
    rotation, seen = token("whatsapp")
    with pytest.raises(SecretsError, match="a person brings its new value"):
        look(rotation, seen)


def finished(platform, says=()):
    entry = {"engine": platform, "current": slot(OLD[platform]), "pending": slot(NEW[platform], rotation="r-new")}
    rotation, seen = token(platform, says, entry=entry)
    return rotation, seen, rotation.finish()


def test_an_old_token_that_the_platform_refuses_ends_in_the_same_run():
    rotation, seen, done = finished("telegram", {OLD["telegram"]: REJECTED})
    assert done["revoke"] and not seen.ended
    rotation.revoke()
    assert seen.stored["previous"]["revoked"] and "old token refused by Telegram" in seen.lines[-1]
    assert [note["step"] for note in seen.notes] == ["drain", "finish", "revoke"]


def test_nobody_is_told_to_revoke_once_more_what_a_new_token_has_ended():
    """BotFather's /revoke would end the new token: of two tokens of a bot one is valid."""
    says = {OLD["telegram"]: UNKNOWN}
    rotation, seen, done = finished("telegram", says)
    assert done["revoke"] and "revoke_after" not in seen.stored["previous"]
    status = rotation.todo(seen.stored["previous"])
    assert status == "see the old token refused, which issuing the new one has ended: revoke -e revoke=telegram"
    rotation.revoke()
    assert seen.stored["previous"]["revoked"] and "accepts the new token, so the old one is dead" in seen.lines[-1]
    assert seen.notes[-1]["state"] == "ended by the new one"


def test_where_telegram_cannot_be_asked_the_end_of_the_old_token_is_left_to_the_next_run(monkeypatch):
    both = {OLD["telegram"]: UNKNOWN, NEW["telegram"]: UNKNOWN}
    rotation, seen, _done = finished("telegram", both)
    with pytest.raises(SecretsError, match="the old token: The platform limits the rate of calls"):
        rotation.revoke()
    monkeypatch.setattr(Rotation, "open", lambda self: {"phase": "revoke"})
    assert token("telegram", both, entry=seen.stored)[0].open()["phase"] == "revoke"


@pytest.mark.parametrize("answer", [accepted("whatsapp"), UNKNOWN])
def test_an_old_token_that_is_not_refused_waits_for_a_person(answer):
    rotation, seen, done = finished("whatsapp", {OLD["whatsapp"]: answer})
    assert not done["revoke"] and "revoked" not in seen.stored["previous"]
    by = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=7)).date().isoformat()
    todo = rotation.todo(seen.stored["previous"])
    assert (
        todo.startswith("revoke the old token of the system user")
        and f"by {by}, then: revoke -e revoke=whatsapp" in todo
    )
    late = rotation.todo({**seen.stored["previous"], "revoke_after": "2026-03-04T00:00:00+00:00"})
    assert "(Users, System users) by 2026-03-04 (OVERDUE), then: revoke" in late
    again, seen = token("whatsapp", {OLD["whatsapp"]: answer}, entry=seen.stored, given="EAAJthird-0123456789")
    again.opened = {}
    with pytest.raises(SecretsError, match="one value at a time: revoke the old token"):
        again.open()


def by_call(**given):
    """A rotation of a token that ends by a call, rolled out."""
    pending = slot(NEW["whatsapp"], rotation="r-new")
    entry = {"engine": "whatsapp", "current": slot(OLD["whatsapp"]), "pending": pending}
    rotation, seen = token("whatsapp", entry=entry, more={"catalog": BY_CALL}, **given)
    rotation.facts["grace"] = 0
    rotation.deployment.stored = lambda name: {"app": {"current": slot("the app's secret")}}.get(name, {})
    return rotation, seen


def test_a_token_that_ends_by_a_call_is_ended_in_the_same_run_and_seen_refused():
    rotation, seen = by_call()
    assert rotation.finish()["revoke"] and not seen.ended
    rotation.revoke()
    assert seen.stored["previous"]["revoked"] and "end" in seen.asked
    assert "old token ended by WhatsApp's API, and refused since" in seen.lines[-1]
    assert [note["state"] for note in seen.notes] == ["done"] * 3


def test_with_a_grace_the_call_comes_later_and_no_person_is_asked(monkeypatch):
    monkeypatch.setattr(Rotation, "open", lambda self: {"opened": self.arguments["purpose"]})
    rotation, seen = by_call()
    rotation.facts["grace"] = 86400
    assert not rotation.finish()["revoke"] and seen.ended
    old = seen.stored["previous"]
    day = old["revoke_after"][:10]
    assert rotation.old_ends(old) == f"the old token is to end after {day} -> revoke -e revoke=whatsapp"
    for purpose, confirmed in (("rotate", False), ("revoke", False), ("revoke", True)):
        rotation.arguments |= {"purpose": purpose, "confirmed": confirmed}
        assert rotation.open() == {"opened": purpose}
    rotation.revoke()
    assert seen.stored["previous"]["revoked"]


def test_a_call_that_was_made_is_not_made_again():
    rotation, seen = by_call(says={OLD["whatsapp"]: REJECTED})
    rotation.finish()
    rotation.revoke()
    assert "end" not in seen.asked and "old token refused by WhatsApp" in seen.lines[-1]


def test_without_the_apps_secret_nothing_begins():
    rotation, seen = by_call(given=NEW["whatsapp"])
    del seen.stored["pending"]
    rotation.deployment.stored = lambda _name: {}
    with pytest.raises(SecretsError, match="WhatsApp is called with the value of app, which the store does not have"):
        look(rotation, seen)


def waiting(answer, monkeypatch, **arguments):
    """What *open* of revoke.yml makes of an old token that waits for a person."""
    monkeypatch.setattr(Rotation, "open", lambda self: {"phase": "revoke_first", "grace": self.arguments["end_grace"]})
    previous = slot(OLD["whatsapp"], rotation="r-old", revoke_after="2099-01-01T00:00:00+00:00")
    entry = {"engine": "whatsapp", "current": slot(NEW["whatsapp"]), "previous": previous}
    rotation, seen = token("whatsapp", {OLD["whatsapp"]: answer}, entry=entry, purpose="revoke", **arguments)
    return rotation, seen


def test_the_platforms_word_confirms_that_a_token_has_ended(monkeypatch):
    rotation, seen = waiting(REJECTED, monkeypatch)
    assert rotation.open() == {"phase": "revoke_first", "grace": True}
    assert rotation.revoke()["changed"] and seen.stored["previous"]["revoked"]


def test_a_person_is_not_believed_against_the_platform(monkeypatch):
    rotation, seen = waiting(accepted("whatsapp"), monkeypatch, confirmed=True)
    with pytest.raises(SecretsError, match="WhatsApp still accepts the old token; revoke the old token"):
        rotation.open()
    unconfirmed, seen = waiting(accepted("whatsapp"), monkeypatch)
    assert unconfirmed.open()["phase"] == "grace" and "not ended" in seen.lines[-1]


def test_a_person_is_believed_where_the_platform_cannot_be_asked(monkeypatch):
    rotation, seen = waiting(UNKNOWN, monkeypatch, confirmed=True)
    assert rotation.open()["phase"] == "revoke_first"
    rotation.revoke()
    assert [note["state"] for note in seen.notes] == ["confirmed by a person"]
    unconfirmed, seen = waiting(UNKNOWN, monkeypatch)
    assert unconfirmed.open()["phase"] == "grace"
    with pytest.raises(SecretsError, match="the old token: The platform limits"):
        unconfirmed.revoke()


def test_a_token_that_came_back_unchanged_needs_no_end():
    entry = {
        "engine": "instagram",
        "current": slot(OLD["instagram"]),
        "pending": slot(OLD["instagram"], rotation="r-new"),
    }
    rotation, seen = token("instagram", entry=entry)
    assert rotation.finish()["revoke"]
    rotation.revoke()
    assert seen.stored["previous"]["revoked"] and "nothing to end" in seen.lines[-1]


def test_pollers_are_replaced_stop_first():
    rotation, seen = token("telegram", {NEW["telegram"]: accepted("telegram", webhook=False)}, given=NEW["telegram"])
    look(rotation, seen)
    [[row]] = rotation.facts["plan"]["waves"]
    assert (row["mode"], row["reason"]) == ("stop_first", "polls for updates")
    assert rotation._options({}, ["telegram-connector"]) == {
        "telegram-connector": {"ready_log": "Connected", "replace": "stop_first"}
    }
    own = {"connector": {"ready_log": "mine", "replace": "start_first"}}
    assert rotation._options(own, ["connector"]) == own
    by_webhook, seen = token("telegram", {NEW["telegram"]: accepted("telegram", webhook=True)}, given=NEW["telegram"])
    look(by_webhook, seen)
    assert by_webhook._options({}, ["telegram-connector", "notifier"]) == {
        "telegram-connector": {"ready_log": "Connected"},
        "notifier": {},
    }


def test_after_the_roll_out_a_call_confirms_the_token():
    entry = {"engine": "whatsapp", "current": slot(OLD["whatsapp"]), "pending": slot(NEW["whatsapp"])}
    rotation, seen = token("whatsapp", entry=entry)
    rotation.drain()
    assert seen.lines == ["drain: 1 of 1 have the new token; WhatsApp accepts it: @chat"]
    with pytest.raises(SecretsError, match="the services have the new token"):
        token("whatsapp", {NEW["whatsapp"]: UNKNOWN}, entry=entry)[0].drain()


def test_nobody_is_sent_back_to_a_dead_token():
    entry = {"engine": "telegram", "current": slot(OLD["telegram"]), "pending": slot(NEW["telegram"])}
    dead, seen = token("telegram", {OLD["telegram"]: REJECTED}, entry=entry)
    assert dead._current_is_dead(entry)
    with pytest.raises(SecretsError, match="so there is no way back; on with the new one"):
        look(dead, seen, phase="back")
    assert not token("telegram", entry=entry)[0]._current_is_dead(entry)


@pytest.mark.parametrize(
    ("platform", "heard", "dead"),
    [
        ("telegram", {"current": "rejected", "pending": "accepted"}, True),
        ("telegram", {"current": "unknown", "pending": "accepted"}, True),
        ("telegram", {"current": "accepted", "pending": "accepted"}, True),
        ("telegram", {}, True),
        ("whatsapp", {"current": "rejected"}, True),
        ("whatsapp", {"current": "unknown"}, True),
        ("whatsapp", {"current": "accepted", "pending": "accepted"}, False),
    ],
)
def test_where_the_platform_cannot_be_asked_what_open_has_heard_counts(platform, heard, dead):
    """A roll-out that fails meanwhile must not go back to a dead token and drop the only valid one."""
    entry = {"engine": platform, "current": slot(OLD[platform]), "pending": slot(NEW[platform])}
    rotation, _seen = token(platform, {OLD[platform]: UNKNOWN}, entry=entry)
    rotation.opened["heard"] = heard
    assert rotation._current_is_dead(entry) is dead


def test_nobody_goes_back_to_a_token_that_nobody_knows_of():
    entry = {"engine": "telegram", "current": slot(OLD["telegram"]), "pending": slot(NEW["telegram"])}
    says = {OLD["telegram"]: UNKNOWN, NEW["telegram"]: UNKNOWN}
    rotation, seen = token("telegram", says, entry=entry, purpose="abort")
    with pytest.raises(SecretsError, match="nobody knows whether there is a way back"):
        look(rotation, seen, phase="back")
    rotation, seen = token("telegram", {OLD["telegram"]: UNKNOWN}, entry=entry)
    with pytest.raises(SecretsError, match="so there is no way back"):
        look(rotation, seen, phase="back")


THIRD = "123456:third-0123456789"


def both_dead(**arguments):
    entry = {"engine": "telegram", "current": slot(OLD["telegram"]), "pending": slot(NEW["telegram"], rotation="r-new")}
    says = {OLD["telegram"]: REJECTED, NEW["telegram"]: REJECTED, THIRD: accepted("telegram")}
    return token("telegram", says, entry=entry, **arguments)


def test_where_both_tokens_are_dead_a_third_one_takes_the_pending_ones_place():
    rotation, seen = both_dead()
    with pytest.raises(SecretsError, match="rejects the new token; bring another, or go back"):
        look(rotation, seen, phase="forward")
    rotation, seen = both_dead(given=THIRD)
    look(rotation, seen, phase="forward")
    assert rotation.create()["changed"] and seen.stored["pending"]["password"] == THIRD
    # What .env may hold stays known.
    assert seen.stored["dropped"]["password"] == NEW["telegram"]
    assert rotation.create() == {"changed": False}


def test_where_both_tokens_are_dead_the_way_back_is_open_and_ends_with_a_third_one():
    rotation, seen = both_dead()
    look(rotation, seen, phase="back")
    for given, onward in (("", False), (THIRD, True)):
        rotation, seen = both_dead(given=given)
        logins = rotation.log_in(rotation.facts, seen.stored, "current", "pending")["logins"]
        assert rotation._has_no_way_back(logins, rotation.facts) is onward


def test_a_pending_token_that_works_gives_way_to_no_other():
    entry = {"engine": "telegram", "current": slot(OLD["telegram"]), "pending": slot(NEW["telegram"])}
    rotation, seen = token("telegram", {THIRD: accepted("telegram")}, entry=entry, given=THIRD)
    with pytest.raises(SecretsError, match="another value is unfinished"):
        look(rotation, seen, phase="forward")


def test_plan_and_report_say_when_telegrams_gap_began():
    rotation, seen = token("telegram", {OLD["telegram"]: REJECTED}, given=NEW["telegram"])
    look(rotation, seen)
    project = {"name": "demo", "env_file": "/srv/.env", "files": []}
    for service in (service for wave in rotation.facts["plan"]["waves"] for service in wave):
        service.update(scale=1, after="", evidence="log", called_by=[])
    facts = {**rotation.facts, "service": "", "image": ""}
    text = " ".join("\n".join(report.plan(facts, project, "db1", "the present value", "the new value", "", {})).split())
    assert "the old one is dead from BotFather's /revoke on, before this run" in text
    outcome = {"word": "ROTATED", "seconds": 3, "gaps": {}, "skipped": [], "refused_at": "03:11:16", "due": "-"}
    lines = report.token_summary({**facts, "title": "Telegram", "todo": "", "valid": ""}, outcome)
    text = " ".join("\n".join(lines).split())
    assert "Telegram accepts the new token" in text and "old token: ended (03:11:16)" in text
    assert "Gap began when BotFather issued the new token" in text and "To do: nothing." in text


def test_what_rotate_tokens_can_do_something_about():
    waits = slot(OLD["instagram"], rotation="r-old", revoke_after="2099-01-01T00:00:00+00:00")
    entries = {"current": slot(NEW["instagram"]), "previous": waits}
    assert token("whatsapp")[0].lacks({"current": slot("x")}) == "no new token was brought; left as it is"
    assert not token("whatsapp", given=NEW["whatsapp"])[0].lacks({"current": slot("x")})
    assert not token("whatsapp")[0].lacks({"current": slot("x"), "pending": slot("y")})
    # How old an imported token is, nobody knows.
    fresh = slot("x") | {
        "created": (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=41, hours=9)).isoformat()
    }
    assert not token("instagram")[0].lacks({"current": fresh})
    # A grace does not hold up what is due.
    assert not token("instagram")[0].lacks(entries)
    waiting = {**entries, "current": fresh}
    assert token("instagram")[0].lacks(waiting) == "Instagram renews it in 3d; left as it is until then"
    assert not token("instagram", given="IGAAthird")[0].lacks(waiting)


def queued(platform, given, entry, **values):
    """What rotate-tokens.yml takes of a platform's token and of what is brought besides, and what it says."""
    rotation, seen = token(platform, given=given, entry=entry)
    rotation.deployment.task_vars.setdefault("secrets_new_values", {}).update(values)
    rotation.deployment.arguments["catalog"]["smtp"] = {"engine": "manual"}
    return lambda: (list(with_next(rotation.deployment, {platform: entry})), seen.lines)


def test_a_schedule_that_finds_nothing_due_is_no_error_but_a_person_who_brings_nothing_is():
    renewed = {"current": slot("x"), "previous": slot("y", revoked="2026-01-01T00:00:00+00:00")}
    renewed["current"]["created"] = (
        datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1, hours=9)
    ).isoformat()
    said = ["open: instagram: Instagram renews it in 43d; left as it is until then"]
    assert queued("instagram", "", renewed)() == ([], said)
    with pytest.raises(SecretsError, match="no new token was brought; put secrets_new_values"):
        queued("whatsapp", "", {"current": slot("x")})()


def test_a_renewal_that_may_fail_comes_behind_what_was_brought():
    rotation, _seen = token("telegram", given=NEW["telegram"])
    rotation.deployment.arguments["catalog"] |= {"instagram": {}, "telegram": {}}
    entries = {name: {"current": slot("x")} for name in ("instagram", "telegram")}
    rotation.deployment.entry = entries.get
    assert list(with_next(rotation.deployment, entries)) == ["telegram", "instagram"]


def test_what_is_brought_for_nobody_is_told():
    entry = {"current": slot("x")}
    names, lines = queued("whatsapp", NEW["whatsapp"], entry, smtp="a-password")()
    assert (
        names == ["whatsapp"]
        and lines[0].startswith("open: smtp: is no API token; ansible-playbook")
        and "a-pass" not in lines[0]
    )
    with pytest.raises(
        SecretsError, match=r"^secrets_new_values\.whatsap: not in secrets_catalog; there are whatsapp, smtp$"
    ):
        queued("whatsapp", NEW["whatsapp"], entry, whatsap="EAAJ")()
    rotation, _seen = token("whatsapp", given=NEW["whatsapp"])
    rotation.deployment.arguments["catalog"]["telegram-webhook"] = {}
    rotation.deployment.task_vars["secrets_new_values"]["telegram-webhook"] = "mine"
    with pytest.raises(
        SecretsError, match=r"secrets_new_values\.telegram-webhook: its values are generated; leave it out"
    ):
        rotation._given()


def test_a_renewed_token_runs_out_by_its_own_age_and_holds_up_no_renewal(monkeypatch):
    """Renewed every 45 days, each token is valid for 60: the next renewal comes within 45 days of the last one."""
    created = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=45)
    entry = {
        "engine": "instagram",
        "current": slot(OLD["instagram"]) | {"created": created.isoformat()},
        "pending": slot(NEW["instagram"], rotation="r-new"),
    }
    rotation, seen = token("instagram", entry=entry)
    rotation.facts["grace"] = 60 * 86400
    assert rotation.finish() == {"changed": True, "revoke": False}
    ends = created + datetime.timedelta(days=60)
    assert seen.stored["previous"]["revoke_after"] == ends.isoformat()
    assert rotation.old_ends(seen.stored["previous"]) == f"the old token runs out by itself, by {ends.date()}"
    outcome = {"word": "ROTATED", "seconds": 3, "gaps": {}, "skipped": [], "refused_at": "", "due": "-"}
    text = " ".join("\n".join(rotation._summary(seen.stored, outcome)).split())
    assert f"old token: runs out by {ends.date()}" in text and "To do: nothing." in text

    def opened(rotation, entry, phase, *_more):
        return {"phase": phase}

    monkeypatch.setattr(Rotation, "_look", opened)
    for platform, answer in (("instagram", accepted("instagram")), ("instagram", UNKNOWN), ("whatsapp", REJECTED)):
        previous = slot(OLD[platform], rotation="r-old", revoke_after="2099-01-01T00:00:00+00:00")
        entry = {"engine": platform, "current": slot(NEW[platform]), "previous": previous}
        again, seen = token(
            platform, {OLD[platform]: answer}, entry=entry, end_grace=False, confirmed_by=[], take_lock=None
        )
        again.deployment.check_mode = True
        again.deployment.memory = lambda: {"records": [], "clocks": {}}
        assert again.open()["phase"] == "revoke_first", platform
        again.opened.update(phase="revoke_first", facts=rotation.facts | {"platform": {"platform": platform}})
        again.arguments["confirmed"] = False  # each step is a task of its own
        again.revoke()
        assert seen.stored["previous"]["revoked"]


def test_a_renewal_that_died_before_its_locks_end_is_not_begun_again(monkeypatch):
    """Instagram refuses to renew a token that is younger than a day."""
    monkeypatch.setattr(Rotation, "_look", lambda *_arguments: {"phase": "revoke_first"})
    released = []
    monkeypatch.setattr(Rotation, "_release", lambda _rotation, rows, result: released.append((rows, result)))
    previous = slot(OLD["instagram"], rotation="r-old", revoke_after="2099-01-01T00:00:00+00:00")
    created = datetime.datetime.now(datetime.UTC).isoformat()
    current = slot(NEW["instagram"], rotation="r-old") | {"created": created}
    entry = {"engine": "instagram", "current": current, "previous": previous}

    def again(left, says=(), **more):
        options = {"end_grace": False, "confirmed_by": [], "take_lock": None, **more}
        rotation, seen = token("instagram", says, entry=entry, **options)
        rotation.deployment.check_mode = False
        rotation.deployment.take = lambda *_arguments, **_more: {"clocks": {}}
        rotation.deployment.memory = lambda: {
            "records": [{"credential": "instagram", "rotation": left}],
            "clocks": {},
        }
        return rotation, seen

    rotation, seen = again("r-old")
    # rotate-tokens.yml takes it for that, though it is not due.
    assert not rotation.lacks(entry)
    assert rotation.open()["phase"] == "ended"
    [(rows, result)] = released
    assert result == "ok" and [row["step"] for row in rows] == ["drain", "finish"]
    assert "r-old had ended, save for its lock" in seen.lines[-1] and "revoked" not in seen.stored["previous"]
    # It died later still.
    entry["current"]["renewed"] = True
    rotation, seen = again("")
    assert rotation.open() == {"changed": False, "phase": "ended"} and len(released) == 1
    assert "instagram: renewed already; Instagram renews it again from 20" in seen.lines[-1]
    assert again("", given="IGAAthird")[0].open()["phase"] == "revoke_first"
    assert again("", drift="replace")[0].open()["phase"] == "revoke_first"
    with pytest.raises(SecretsError, match="Instagram rejects the token that it has renewed; have a new one issued"):
        again("", {NEW["instagram"]: REJECTED})[0].open()
    entry["current"]["created"] = (
        datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1, minutes=1)
    ).isoformat()
    assert again("")[0].open()["phase"] == "revoke_first"
    # What another run has left, and a token that is brought, are another matter.
    assert again("r-other")[0].lacks(entry) and again("r-other")[0].open()["phase"] == "revoke_first"
    assert again("r-old", given="IGAAthird")[0].open()["phase"] == "revoke_first"


class Killed(BaseException):
    """What ends a run is not always an error."""


@pytest.mark.parametrize("platform", sorted(OLD))
def test_a_run_that_is_killed_after_any_change_is_finished_by_the_next(platform, monkeypatch):
    """Nothing is brought to the second run: what the first one had stored is what counts."""
    monkeypatch.setattr(Rotation, "publish", lambda rotation: {})
    monkeypatch.setattr(Rotation, "roll_out", lambda rotation: {})
    dead = {OLD[platform]: REJECTED}
    forward = ("create", "set", "test", "publish", "roll_out", "drain", "finish", "revoke")
    for kills in range(1, 10):
        first, seen = token(platform, dead, given=NEW[platform])
        left = kills

        def change(mutator, seen=seen):
            nonlocal left
            mutator({platform: seen.stored})
            left -= 1
            if not left:
                raise Killed

        first.deployment.store.change = change
        try:
            for step in forward:
                getattr(first, step)()
            break
        except Killed:
            pass
        phase = phase_of(seen.stored)
        again, seen = token(platform, dead, entry=seen.stored)
        again.opened["phase"] = phase
        for step in {"forward": forward, "revoke": ("drain", "revoke"), "new": ()}[phase]:
            getattr(again, step)()
        assert seen.stored["current"]["password"] == NEW[platform] and seen.stored["previous"]["revoked"], kills
    assert kills == 4


@pytest.mark.parametrize(("answer", "passed"), [(REJECTED, True), (accepted("telegram"), False)])
def test_a_connector_that_is_down_for_its_dead_token_gets_the_new_one(answer, passed):
    rotation, seen = token("telegram", {OLD["telegram"]: answer}, given=NEW["telegram"])
    look(rotation, seen)
    assert rotation.facts["plan"]["refusals"] == ([] if passed else [DOWN])


@pytest.mark.parametrize("platform", ["whatsapp", "telegram"])
@pytest.mark.parametrize("locked", [False, True])
def test_the_same_command_after_its_end_has_nothing_to_do(platform, locked):
    ended = {"revoke_after": "2126-01-01T00:00:00+00:00"} if platform == "whatsapp" else {"revoked": "2026-01-02"}
    entry = {
        "engine": platform,
        "current": slot(NEW[platform], rotation="r-new"),
        "previous": slot(OLD[platform], rotation="r-new", **ended),
    }
    rotation, seen = token(platform, given=NEW[platform], entry=entry)
    record = {"credential": platform, "rotation": "r-new"}
    rotation.deployment.memory = lambda: {"records": [record] if locked else []}
    closed = []
    rotation._close = lambda _entry, left: closed.append(left) or {"changed": False, "phase": "ended"}
    assert rotation.open() == {"changed": False, "phase": "ended"}
    assert closed == (["r-new"] if locked else [])
    if not locked:
        assert "the value that was brought is in use already" in seen.lines[-1]
        assert ("revoke the old token" in seen.lines[-1]) == (platform == "whatsapp")


def test_a_token_that_nobody_has_brought_before_is_no_news_but_refused():
    entry = {"engine": "whatsapp", "current": slot(NEW["whatsapp"], imported=True)}
    rotation, _seen = token("whatsapp", given=NEW["whatsapp"], entry=entry)
    with pytest.raises(SecretsError, match="is the current value; have a new one issued first"):
        rotation._check_new(entry, NEW["whatsapp"])
    assert not rotation._is_brought(entry)


@pytest.mark.parametrize(("given", "refused"), [("", False), ("same", False), ("another", True)])
def test_a_run_that_died_before_the_old_tokens_end_needs_no_new_one(given, refused):
    entry = {
        "engine": "telegram",
        "current": slot(NEW["telegram"], rotation="r-new"),
        "previous": slot(OLD["telegram"], rotation="r-new"),
    }
    assert phase_of(entry) == "revoke"
    value = {"": "", "same": NEW["telegram"], "another": "123456:another-0123456789"}[given]
    says = {OLD["telegram"]: REJECTED, "123456:another-0123456789": accepted("telegram")}
    rotation, seen = token("telegram", says, given=value, entry=entry)
    if refused:
        with pytest.raises(SecretsError, match="a rotation to another value is unfinished; give that one, or none"):
            look(rotation, seen, "revoke")
    else:
        look(rotation, seen, "revoke")


def test_a_token_in_use_that_is_brought_once_more_and_is_dead_is_refused():
    entry = {"engine": "whatsapp", "current": slot(NEW["whatsapp"], rotation="r-new")}
    rotation, _seen = token("whatsapp", {NEW["whatsapp"]: REJECTED}, given=NEW["whatsapp"], entry=entry)
    with pytest.raises(SecretsError, match="WhatsApp rejects the token that is brought, which is in use"):
        rotation.open()
