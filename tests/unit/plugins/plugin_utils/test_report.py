# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report

FACTS = {
    "name": "postgres",
    "image": "registry.example.org/postgres:16-alpine",
    "service": "postgres",
    "strategy": "pair",
    "type": "pair",
    "role": "chat4all",
    "variables": {"user": "POSTGRES_USER", "password": "POSTGRES_PASSWORD"},
    "grace": 0,
    "consumers": ["a", "b"],
    "places": [{"host": "db1", "env_file": "/srv/chat4all/.env"}],
    "plan": {
        "waves": [
            [
                {
                    "service": "a" * 60,
                    "scale": 2,
                    "mode": "start_first",
                    "reason": "",
                    "evidence": "health check",
                    "after": "",
                },
                {
                    "service": "b",
                    "scale": 1,
                    "mode": "stop_first",
                    "reason": "container_name",
                    "evidence": "x" * 90,
                    "after": "",
                    "called_by": ["c"],
                },
            ]
        ]
    },
}
PROJECT = {"name": "production", "env_file": "/srv/chat4all/.env", "files": ["/srv/x.yml", "/srv/x.override.yml"]}
LAST = {"seconds": 74.0, "gaps": {"b": 5.2}}
OUTCOME = {
    "word": "ROTATED",
    "seconds": 74.0,
    "refused": 0,
    "gaps": {"scheduler": 5.2},
    "skipped": [],
    "refused_at": "03:11:16",
    "revoke_after": "",
    "due": "2026-03-01",
}


@pytest.mark.parametrize(
    ("seconds", "text"), [(5.24, "5.2 s"), (41, "41 s"), (74, "1 min 14 s"), (11100, "3 h 5 min"), (90 * 86400, "90d")]
)
def test_lengths_of_time_are_written_as_people_say_them(seconds, text):
    assert report.duration(seconds) == text


def test_nothing_is_wider_than_100_columns():
    blocks = [
        report.plan(
            FACTS, PROJECT, "db1", "chat4all", "chat4all_1", "r-7f3a, stopped in roll out; " + "word " * 40, LAST
        ),
        report.summary(FACTS, "chat4all_1", OUTCOME),
        report.aborted("postgres", "roll_out", "chat4all", "working " * 30),
        report.small_plan("postgres", PROJECT, "word " * 40, "word " * 40),
        report.stopped("postgres", "roll_out", "a reason " * 30, [("Services", "working " * 30)]),
        report.status_table(
            [{"name": "n" * 20, "type": "pair", "age": "3d", "due": "87d", "last": "ok", "now": "word " * 40}]
        ),
    ]
    assert [row for block in blocks for row in block if len(row) > report.WIDTH] == []


def test_the_columns_of_the_status_are_as_wide_as_what_stands_in_them():
    row = {"type": "webhook", "age": "3d", "due": "87d", "last": "ok", "now": "NOW " * 20}
    names = ("redis", "whatsapp-webhook")
    head, *lines = report.status_table([{**row, "name": name} for name in names])
    assert {line.find("NOW") for line in lines} == {head.find("NOW")}
    assert {line.find("webhook ", 16) for line in lines if line[0] != " "} == {head.find("TYPE")}


def test_the_plan_says_that_nothing_is_touched_and_who_has_a_gap():
    text = "\n".join(report.plan(FACTS, PROJECT, "db1", "chat4all", "chat4all_1", "", LAST))
    assert "nothing will be touched" in text
    assert "1 service with a gap: b" in text and "gap about 5.2 s" in text
    assert "c calls b by its name" in text
    assert "x.override.yml: pins postgres's first-start values" in text
    assert "estimate 1 min 14 s" in text
    assert "user chat4all -> chat4all_1 (first rotation: users are created)" in " ".join(text.split())


JOB = {"name": "backup-job", "path": "/etc/db.env", "host": "", "variables": {"password": "PW"}, "after": ["sh", "x"]}


def test_the_plan_shows_the_consumers_outside_compose():
    facts = {**FACTS, "files": [JOB, {**JOB, "name": "cron", "host": "app2", "after": []}], "persons": ["dba"]}
    text = " ".join("\n".join(report.plan(facts, PROJECT, "db1", "chat4all", "chat4all_1", "", LAST)).split())
    assert "publish /etc/db.env on db1: PW publish /etc/db.env on app2: PW" in text
    assert "2 backup-job sh x exit code 0 direct" in text and " cron " not in text
    assert "by hand dba confirms old value ends: once confirmed estimate" in text
    skipped = "\n".join(report.plan({**facts, "grace": 60}, PROJECT, "db1", "a", "b", "", LAST, ["backup-job"]))
    assert "/etc/db.env on db1: skipped, it stays stale" in skipped and "sh x" not in skipped
    assert "once confirmed, after 1 min 0 s of grace" in skipped


def test_the_summary_names_persons_and_files_that_have_the_old_value():
    facts = {**FACTS, "files": [JOB]}
    text = "\n".join(report.summary(facts, "app_2", {**OUTCOME, "skipped": ["backup-job"], "refused_at": ""}))
    assert "2/2 services and 0/1 files on app_2" in text
    assert "backup-job keeps the old value: copy .env's values into /etc/db.env and restart it" in text
    text = "\n".join(report.summary(facts, "app_2", {**OUTCOME, "refused_at": "", "waits_for": ["dba", "ops"]}))
    assert (
        "dba and ops still have the old value; then: "
        "ansible-playbook chat4all.secrets.revoke -e revoke=postgres -e confirmed=dba,ops."
    ) in text and "To do: then" not in text


def test_the_summary_names_what_is_left_to_do():
    assert "To do: nothing." in "\n".join(report.summary(FACTS, "chat4all_1", OUTCOME))
    waiting = {**OUTCOME, "refused_at": "", "revoke_after": "2026-02-01", "skipped": ["b"]}
    text = "\n".join(report.summary(FACTS, "chat4all_1", waiting))
    assert "b keeps the old value" in text and "after 2026-02-01" in text and "1/2 services" in text
