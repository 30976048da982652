# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.utils.display import Display
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report, serverless
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import Rotation, phase_of

CURRENT = {"user": "mailer", "password": "old-value-0123456789", "created": "2026-01-01T00:00:00+00:00"}
FACTS = {
    "name": "smtp",
    "type": "person",
    "strategy": "manual",
    "service": "",
    "image": "",
    "grace": 0,
    "consumers": ["app", "web"],
    "variables": {"password": "SMTP_PASSWORD"},
    "places": [{"host": "db1", "env_file": "/srv/demo/.env"}],
    "plan": {"waves": []},
}
UNSET = object()


def manual(entry=None, given=UNSET, facts=(), **arguments):
    """A rotation of ``smtp``, and what it stores, notes and says."""
    stored = {"smtp": entry or {"current": dict(CURRENT)}}
    seen = SimpleNamespace(stored=stored["smtp"], notes=[], lines=[])
    deployment = SimpleNamespace(
        host="db1",
        arguments={"catalog": {"smtp": {"engine": "manual"}}},
        task_vars={} if given is UNSET else {"secrets_new_values": {"smtp": given}},
        action=SimpleNamespace(_templar=SimpleNamespace(template=lambda value: value)),
        store=SimpleNamespace(change=lambda mutator: mutator(stored), fingerprint=lambda _value: "f"),
        entry=lambda name: {key: dict(slot) for key, slot in stored[name].items()},
        memory=lambda: {"records": []},
        require_discretion=lambda: None,
        holder=lambda rotation: {"rotation": rotation},
        state=lambda _action, **given: seen.notes.extend(given["ledger"]),
        line=lambda step, text: seen.lines.append(f"{step}: {text}"),
    )
    opened = {"rotation": "r-new", "purpose": "rotate", "phase": "new", "facts": {**FACTS, **dict(facts)}}
    defaults = {"opened": opened, "skip_services": [], "confirmed": False, "purpose": "rotate", "drift": "refuse"}
    return serverless.rotation_of(deployment, "smtp", {**defaults, **arguments}), seen


def test_the_engine_alone_tells_which_rotation_it_is():
    catalog = {"smtp": {"engine": "manual"}, "postgres": {}, "manual": None}
    deployment = SimpleNamespace(arguments={"catalog": catalog})
    kinds = {name: type(serverless.rotation_of(deployment, name, {})) for name in catalog}
    assert kinds == {"smtp": serverless.ManualRotation, "postgres": Rotation, "manual": Rotation}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (UNSET, "type it when a run in a terminal asks for it, or put secrets_new_values"),
        ("", "a person brings its new value"),
        (" ", "a person brings its new value"),
        (None, "is no text; put it in quotes"),
        (12345678, "is no text; put it in quotes"),
        (["a"], "is no text; put it in quotes"),
        ({"user": "x"}, "must be the value, or a mapping such as"),
        ({"value": "x"}, "must be the value, or a mapping such as"),
        ({"user": "other", "secret": "new-0123456789"}, "names none for it"),
        ("change_me_please", "is a placeholder"),
        ("new-value\n", "a character that is no text"),
        (" new-value", "begins or ends with a space"),
        (CURRENT["password"], "is the current value; have a new one issued first"),
    ],
)
def test_what_cannot_be_a_new_value_is_refused_without_showing_it(given, message):
    rotation, seen = manual(given=given)
    with pytest.raises(SecretsError, match=message) as refused:
        rotation.create()
    assert CURRENT["password"] not in refused.value.message and "pending" not in seen.stored


def test_the_previous_value_is_not_brought_again():
    entry = {"current": CURRENT, "previous": {**CURRENT, "password": "older-0123456789", "rotation": "r-old"}}
    with pytest.raises(SecretsError, match="is the previous value"):
        manual(entry, given="older-0123456789")[0].create()


def test_the_value_is_stored_before_anybody_sees_it_and_reused_by_the_next_run():
    rotation, seen = manual(given="new-value-0123456789")
    assert rotation.create() == {"changed": True}
    pending = seen.stored["pending"]
    assert (pending["user"], pending["password"], pending["rotation"]) == ("mailer", "new-value-0123456789", "r-new")
    assert [note["step"] for note in seen.notes] == ["open", "create"]
    assert "new-value" not in repr((seen.notes, seen.lines))
    assert manual(seen.stored)[0].create() == {"changed": False}


def test_a_user_name_may_come_with_it():
    both = {"variables": {"user": "SMTP_USER", "password": "SMTP_PASSWORD"}}
    rotation, seen = manual(given={"user": "mailer-2", "secret": "new-0123456789"}, facts=both)
    rotation.create()
    assert (seen.stored["pending"]["user"], seen.stored["pending"]["password"]) == ("mailer-2", "new-0123456789")


def test_a_surveys_answer_is_for_the_one_credential_that_is_named():
    for rotate, counts in (("smtp", True), ("smtp,postgres", False)):
        rotation, seen = manual()
        rotation.deployment.task_vars = {"rotate": rotate, "secrets_new_value": "answer-0123456789"}
        assert bool(rotation._given()) == counts
    rotation.deployment.task_vars |= {"rotate": "smtp", "secrets_new_values": {"smtp": "file-0123456789"}}
    assert rotation._given() == "file-0123456789"
    rotation.deployment.arguments["catalog"]["other"] = {"engine": "manual"}
    rotation.deployment.task_vars["secrets_new_values"] = {"other": "file-0123456789"}
    rotation.create()
    assert seen.stored["pending"]["password"] == "answer-0123456789"


@pytest.fixture
def terminal(monkeypatch):
    """A person who types each of some answers once; returns the questions that were asked."""

    def answered(*answers):
        left, asked = list(answers), []

        def prompt_until(_display, question, private=False):
            assert private
            asked.append(question)
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(Display, "prompt_until", prompt_until)
        return asked

    return answered


def opening(entry=None, given=UNSET, **arguments):
    rotation, seen = manual(entry, given, **{"step": "open", **arguments})
    rotation.deployment.store.fingerprint_key = b"k" * 32
    return rotation, seen


def test_in_a_terminal_a_person_is_asked_once_and_the_later_steps_have_the_answer_sealed(terminal):
    asked = terminal(b"typed-value-0123456789")
    rotation, _seen = opening()
    assert rotation._given() == rotation._given() == "typed-value-0123456789"
    assert asked == ["New value of smtp (it is not shown):"]
    assert "typed-value" not in repr(rotation.opened)
    later, seen = opening(opened=rotation.opened)
    later.arguments["step"] = "create"
    later.create()
    assert seen.stored["pending"]["password"] == "typed-value-0123456789" and len(asked) == 1


def test_nobody_is_asked_for_what_was_brought_or_is_stored_or_not_wanted(terminal):
    asked = terminal()
    pending = {"current": CURRENT, "pending": {**CURRENT, "password": "new-0123456789", "rotation": "r-new"}}
    assert opening(given="brought-0123456789")[0]._given() == "brought-0123456789"
    assert not opening(pending)[0]._given()
    assert not opening(opened={"rotation": "r-new", "purpose": "revoke"})[0]._given()
    assert not opening(step="create")[0]._given() and not manual()[0]._given()
    assert not opening(opened={})[0]._given(), "the queue looks before anything is opened"
    assert asked == []


def test_without_a_terminal_there_is_no_answer(terminal):
    asked = terminal(AnsiblePromptNoninteractive())
    rotation, _seen = opening()
    assert not rotation._given() and not rotation._given() and len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [(AnsiblePromptInterrupt(), "interrupted while it was asked"), (b"\xff\xfe", "what was typed is no text")],
)
def test_who_types_nothing_useful_is_told(terminal, answer, message):
    terminal(answer)
    with pytest.raises(SecretsError, match=message):
        opening()[0]._given()


def test_another_value_than_the_unfinished_rotations_is_refused(monkeypatch):
    monkeypatch.setattr(Rotation, "_refuse", lambda *_arguments, **_more: None)
    entry = {"current": CURRENT, "pending": {**CURRENT, "password": "new-0123456789", "rotation": "r-new"}}
    for same in (UNSET, "new-0123456789"):
        manual(entry, given=same)[0]._refuse({}, {}, True)
    with pytest.raises(SecretsError, match="another value is unfinished"):
        manual(entry, given="newer-0123456789")[0]._refuse({}, {}, True)


def finished():
    entry = {"current": dict(CURRENT), "pending": {**CURRENT, "password": "new-0123456789", "rotation": "r-new"}}
    rotation, seen = manual(entry)
    rotation._end = lambda *_arguments, **_more: None
    assert rotation.finish() == {"changed": True, "revoke": False}
    return seen.stored


def test_the_old_value_waits_for_a_person():
    stored = finished()
    assert stored["previous"]["password"] == CURRENT["password"] and phase_of(stored) == "revoke_first"
    with pytest.raises(SecretsError, match="end the old value of smtp where it was issued, then: .*confirmed=true"):
        manual(stored, given="third-0123456789")[0].open()
    rotation, seen = manual(stored, purpose="revoke")
    assert rotation.open()["phase"] == "grace" and "not ended" in seen.lines[0]
    rotation, seen = manual(stored, opened={"rotation": "r-3", "purpose": "rotate", "facts": FACTS})
    assert rotation.revoke()["changed"] and phase_of(stored) == "new"
    assert [note["state"] for note in seen.notes] == ["confirmed by a person"]


def test_the_plan_and_the_summary_say_that_nobody_here_can_test_it():
    project = {"name": "demo", "env_file": "/srv/demo/.env", "files": []}
    text = "\n".join(report.plan(FACTS, project, "db1", "the present value", "the new value", "", {}))
    assert "nobody here can test it" in text and "revoke -e revoke=smtp -e confirmed=true" in text.replace(
        "\n" + " " * 11, " "
    )
    outcome = {
        "word": "ROTATED",
        "seconds": 3,
        "refused": None,
        "gaps": {},
        "skipped": [],
        "refused_at": "",
        "due": "-",
    }
    text = "\n".join(report.summary(FACTS, "the new value", {**outcome, "revoke_after": "2026-01-01"}))
    assert "not tested" in text and "2/2 services on the new value" in text and "confirmed=true" in text
