# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log lines are judged and shown as promised, however hostile; a script stands in for ``docker`` (no engine needed)."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import time
import urllib.parse

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import logs
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.logs import Line, LogWatch
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import MASK, Masker

SECRET = "s3cr3t-V4lue~with.every_CLASS-00"
STARTED = [re.compile(r"Started \w*Application")]
FAILURES = logs.patterns(logs.DEFAULT_FAILURES, "defaults")


@pytest.fixture
def docker(tmp_path):
    """Return a function that makes a ``docker`` out of a shell script."""

    def make(script: str) -> DockerCli:
        path = tmp_path / "docker"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
        return DockerCli(executable=str(path))

    return make


def judged(docker: DockerCli, success=None, failure=None, masker=None):
    """Return what a log says that has come to its end."""
    success, failure = STARTED if success is None else success, FAILURES if failure is None else failure
    with LogWatch(docker, "c1", success, failure, masker or Masker([SECRET])) as watch:
        return watch.finish(10)


# -- what is shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred\x9b0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(Bset", "set"),
        ("a\x1bcb", "ab"),
        ("a\tb\u00a0c", "a b c"),
        ("bell\x07 nul\x00 del\x7f back\b", "bell nul del back"),
        ("100 %\r\n", "100 %"),
        ("\u202eevil\u2066 zero\u200bwidth", "evil zerowidth"),
        ("ünïcöde ✓ 漢", "ünïcöde ✓ 漢"),
        ("a\x1b[", "a"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_shown(raw, shown):
    assert logs.clean(raw) == shown


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"chat4all:{SECRET}".encode()).decode().rstrip("="),
        SECRET.encode().hex(),
        urllib.parse.quote(SECRET, safe=""),
        f"{SECRET[:5]}\x1b[31m{SECRET[5:]}",
        f"{SECRET[:5]}\u200b{SECRET[5:]}",
    ],
)
def test_a_secret_in_a_shown_line_is_masked_in_every_form(docker, form):
    output = base64.b64encode(f"url=x://u:{form}@db password authentication failed".encode()).decode()
    verdict = judged(docker(f"echo {output} | base64 -d"))
    assert verdict.status == "failed"
    assert MASK in verdict.line and SECRET not in verdict.line
    middle = len(form) // 2
    assert form[middle - 4 : middle + 8] not in verdict.line


def test_a_secret_with_a_control_character_is_masked():
    secret = "tab\there\u00a0and there"
    assert Line(f"it is {secret}!").shown(Masker([secret])) == f"it is {MASK}!"


def test_a_line_is_shown_around_what_matched_and_is_short():
    found = re.compile("WRONGPASS")
    line = "x" * 5000 + " WRONGPASS " + "y" * 5000
    shown = Line(line).shown(Masker(), found)
    assert shown.startswith("...") and "WRONGPASS" in shown and len(shown) == logs.SHOWN
    assert Line("WRONGPASS " + "y" * 5000).shown(Masker(), found).startswith("WRONGPASS yyy")


@pytest.mark.parametrize("before", range(logs.PIECE - 80, logs.PIECE + 80, 7))
def test_a_secret_cut_at_the_end_of_a_piece_shows_no_part(docker, before):
    # Secrets all over: masking makes the line shorter, which brings its end into what is shown.
    count, rest = divmod(before, len(SECRET))
    line = "-" * rest + SECRET * (count + 1) + "z" * 2 * logs.PIECE
    path = os.path.join(os.path.dirname(docker("").executable), "line")
    with open(path, "w") as stream:
        stream.write(line)
    with LogWatch(docker(f"cat {path}"), "c1", [re.compile("z")], [], Masker([SECRET])) as watch:
        shown = watch.finish().line
    for length in range(6, len(SECRET)):
        assert SECRET[:length] not in shown and SECRET[-length:] not in shown


@pytest.mark.parametrize("known", range(6, len(SECRET), 5))
def test_a_secret_cut_after_what_matched_shows_no_part(known):
    line = Line("x" * 1000 + " WRONGPASS " + "-" * 100 + SECRET[:known], cut_after=True)
    shown = line.shown(Masker([SECRET]), re.compile("WRONGPASS"))
    assert "WRONGPASS" in shown and SECRET[:6] not in shown


# -- what is judged


@pytest.mark.parametrize(
    "line",
    [
        'FATAL:  password authentication failed for user "chat4all"',
        'org.postgresql.util.PSQLException: FATAL: role "chat4all_1" is not permitted to log in',
        'psycopg2.OperationalError: FATAL:  role "chat4all_1" does not exist',
        'WARNING:  permission denied to set role "chat4all"',
        'FATAL: no pg_hba.conf entry for host "172.18.0.4", user "chat4all_1"',
        "fe_sendauth: no password supplied",
        "The server requested SCRAM-based authentication, but no password was provided.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "(error) NOAUTH Authentication required.",
        "ERR invalid password",
        "MongoServerError: Authentication failed.",
        "com.mongodb.MongoSecurityException: Exception authenticating MongoCredential{...}",
        "Command failed with error 18 (AuthenticationFailed): 'Authentication failed.'",
        "S3 error: The Access Key Id you provided does not exist (InvalidAccessKeyId)",
        "<Code>SignatureDoesNotMatch</Code>",
    ],
)
def test_what_clients_say_of_a_refused_credential_is_a_failure(line):
    assert any(pattern.search(line) for pattern in FAILURES)


@pytest.mark.parametrize(
    "line",
    [
        "Started MessageServiceApplication in 3.2 seconds",
        "Authentication failed for user bob from 10.0.0.7: bad credentials",
        'NOTICE:  role "reporting" does not exist, skipping',
        'relation "message" does not exist',
        "authenticated as chat4all",
        "MongoClient with metadata created, authentication mechanism SCRAM-SHA-256",
    ],
)
def test_ordinary_lines_are_no_failure(line):
    assert not any(pattern.search(line) for pattern in FAILURES)


@pytest.mark.parametrize("stream", ["1", "2"])
def test_both_streams_are_read(docker, stream):
    verdict = judged(docker(f"echo 'Started FooApplication' >&{stream}"))
    assert (verdict.status, verdict.line) == ("matched", "Started FooApplication")


@pytest.mark.parametrize("first", ["Started FooApplication", "WRONGPASS"])
def test_a_failure_outweighs_a_success_in_either_order(docker, first):
    second = {"WRONGPASS": "Started FooApplication"}.get(first, "WRONGPASS")
    assert judged(docker(f"echo '{first}'; echo '{second}'")).status == "failed"


def test_nothing_said_is_waiting(docker):
    verdict = judged(docker("echo; echo '  '"))
    assert (verdict.status, verdict.line) == ("waiting", "")


def test_a_last_line_without_an_end_counts(docker):
    verdict = judged(docker("printf 'Started FooApplication'"))
    assert (verdict.status, verdict.line) == ("matched", "Started FooApplication")


def test_escapes_do_not_hide_a_line(docker):
    assert judged(docker(r"printf '\033[32mStarted \033[1mFooApplication\033[0m\n'")).line == "Started FooApplication"


def test_what_is_no_utf8_disturbs_nothing(docker):
    verdict = judged(docker(r"printf '\377\376\300 Started FooApplication \200\n'"))
    assert verdict.status == "matched" and verdict.line.isprintable()


@pytest.mark.parametrize("before", [0, 16380, 16384, 40000, 1_000_000])
def test_a_line_without_end_is_searched_whole_and_never_kept_whole(docker, before):
    script = (
        f"head -c {before} /dev/zero | tr '\\0' x; printf 'password authentication failed'; head -c 50000 /dev/zero"
    )
    with LogWatch(docker(script), "c1", STARTED, FAILURES, Masker()) as watch:
        verdict = watch.finish(10)
        assert len(watch._last.text) <= 2 * logs.PIECE
    assert verdict.status == "failed" and "password authentication failed" in verdict.line


def test_the_log_is_followed_from_where_the_run_began(docker):
    with LogWatch(docker('echo "$@"'), "c1", [re.compile(".")], [], Masker(), since="17.5") as watch:
        assert watch.finish().line == "logs --follow --since 17.5 c1"
    with LogWatch(docker('echo "$@"'), "c1", [re.compile(".")], [], Masker()) as watch:
        assert watch.finish().line == "logs --follow c1"


def test_a_log_that_cannot_be_read_says_why(docker):
    verdict = judged(
        docker("echo 'Error response from daemon: configured logging driver does not support reading'; exit 1")
    )
    assert verdict.status == "unreadable" and verdict.line.endswith("does not support reading")


def test_a_missing_client_is_one_clear_line():
    with pytest.raises(SecretsError, match="install the Docker client"):
        LogWatch(DockerCli(executable="/nonexistent/docker"), "c1", [], [], Masker())


def test_the_follower_is_ended_and_reaped_and_its_thread_too(docker):
    threads = threading.active_count()
    with LogWatch(docker("echo here; exec sleep 100"), "c1", [re.compile("here")], [], Masker()) as watch:
        while watch.poll().status == "waiting":
            time.sleep(0.01)
        process = watch._process.pid
    assert threading.active_count() == threads
    with pytest.raises(ChildProcessError):
        os.waitpid(process, os.WNOHANG)
    # Ended by us, it has not become unreadable.
    assert watch.poll().status == "matched"


def test_a_follower_that_ignores_the_signal_is_killed(docker, monkeypatch):
    real = logs.subprocess.Popen.wait
    monkeypatch.setattr(logs.subprocess.Popen, "wait", lambda self, timeout=None: real(self, timeout and 0.1))
    with LogWatch(
        docker("trap '' TERM; echo here; while :; do read x < /dev/zero; done"), "c1", STARTED, [], Masker()
    ) as w:
        while not w.last():
            time.sleep(0.01)
    assert w._process.returncode == -9


# -- patterns and times


@pytest.mark.parametrize("bad", ["(", "[a", "*", "a{2,1}", "(?P<x>", 5])
def test_a_bad_pattern_is_named(bad):
    with pytest.raises(SecretsError) as caught:
        logs.patterns(["fine", bad], "secrets_services.api.ready_log")
    assert caught.value.message.startswith(f"secrets_services.api.ready_log: {bad!r} is not a regular expression")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("empty", ["", ".*", "a|", "^"])
def test_a_pattern_that_any_line_would_match_is_refused(empty):
    with pytest.raises(SecretsError, match="matches every line"):
        logs.patterns([empty], "success")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1),
        ("2026-11-24T04:01:33.010849472Z", 1795492893.010849),
        ("2026-11-24T05:01:33.5+01:00", 1795492893.5),
        ("2026-11-24 04:01:33Z", 1795492893),
    ],
)
def test_a_time_is_understood(text, seconds):
    assert logs.moment(text) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-24", "2026-11-24T04:01:33", "2026-13-24T04:01:33Z", "5"])
def test_another_time_is_refused(text):
    with pytest.raises(SecretsError, match=r"started_after: .* is not a time with its zone"):
        logs.moment(text, "started_after")


def test_a_run_begins_between_the_end_of_the_one_before_and_its_own_start():
    never = "0001-01-01T00:00:00Z"
    assert logs.run_began({"StartedAt": "1970-01-01T00:00:10Z", "FinishedAt": never}) == ""
    assert logs.run_began({"StartedAt": "1970-01-01T00:00:10Z", "FinishedAt": "1970-01-01T00:00:09Z"}) == "9.500000"
    assert logs.run_began({"StartedAt": "1970-01-01T00:00:10Z", "FinishedAt": "1970-01-01T00:00:12Z"}) == "9.000000"


@pytest.mark.parametrize("over", [{"Running": False}, {"Running": True, "Restarting": True}])
def test_a_run_that_was_over_before_the_engine_noted_its_start_is_read_whole(over):
    # Of "sh -c 'echo ...; exit 1'" the engine noted the end before the start.
    state = {"StartedAt": "1970-01-01T00:00:10.003Z", "FinishedAt": "1970-01-01T00:00:10Z", **over}
    assert logs.run_began(state) == "9.000000"


# -- several containers together

NOW = "2026-11-24T04:01:33Z"


def container(name: str, **changes) -> dict:
    state = {"Running": True, "Restarting": False, "Status": "running", "ExitCode": 0, "StartedAt": NOW}
    state["FinishedAt"] = "0001-01-01T00:00:00Z"
    restarts = changes.pop("RestartCount", 0)
    return {"Id": name, "Name": f"/{name}", "RestartCount": restarts, "State": {**state, **changes}}


@pytest.fixture
def world(docker, tmp_path):
    """Return a function that runs ``verify`` over containers: their logs, and how they look while they are watched."""

    def run(said: dict, states: list[dict] | None = None, before: list[dict] | None = None, error="", **options):
        before = before or [container(name) for name in said]
        for name, text in said.items():
            (tmp_path / f"{name}.log").write_text(text)
        now = before if states is None else states
        (tmp_path / "states").write_text(json.dumps(now))
        # A follower ends with its container.
        running = len(now) == len(before) and all(data["State"]["Status"] == "running" for data in now)
        script = f"""
            cd {tmp_path}
            case "$1" in
            container) cat states; {"exit 0" if len(now) == len(before) else f"echo '{error}' >&2; exit 1"};;
            logs) for name; do :; done; cat "$name.log"; exec sleep {60 if running else 0};;
            esac
        """
        settings = {"timeout": 5, "quiet": 0, **options}
        facts = {data["Id"]: data for data in before}
        return logs.verify(docker(script), facts, STARTED, FAILURES, Masker([SECRET]), **settings)

    return run


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(logs, "POLL", 0.02)


def test_all_containers_must_have_said_it(world):
    results = world({"a": "Started AApplication\n", "b": "Started BApplication\n"})
    assert [(row["name"], row["status"], row["line"]) for row in results] == [
        ("a", "ok", "Started AApplication"),
        ("b", "ok", "Started BApplication"),
    ]


def test_one_failure_ends_it_for_all(world):
    began = time.monotonic()
    results = world({"a": "hello\n", "b": f"password authentication failed for {SECRET}\n"}, timeout=30)
    assert time.monotonic() - began < 20
    assert [row["status"] for row in results] == ["waiting", "failed"]
    assert results[1]["reason"] == f'its log says "password authentication failed for {MASK}"'


def test_silence_is_a_time_out_with_the_last_line(world):
    began = time.monotonic()
    (result,) = world({"a": f"connecting with {SECRET}\n"}, timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 10
    assert result["status"] == "timed_out"
    assert result["reason"] == f'no line of success within 0.3 s; its last line: "connecting with {MASK}"'


def test_the_quiet_time_is_waited_for(world):
    began = time.monotonic()
    (result,) = world({"a": "Started AApplication\n"}, quiet=0.5, timeout=0.2)
    assert result["status"] == "ok" and time.monotonic() - began >= 0.5


@pytest.mark.parametrize("code", [0, 1, 137])
def test_an_exit_is_a_failure_whatever_its_code_and_even_after_a_success(world, code):
    gone = container("a", Running=False, Status="exited", ExitCode=code)
    (result,) = world({"a": "Started AApplication\npanic: foo\n"}, [gone], quiet=5)
    assert result["status"] == "exited"
    assert result["reason"] == f'exited with code {code}; its last line: "panic: foo"'


def test_the_line_of_failure_explains_an_exit(world):
    gone = container("a", Running=False, Status="exited", ExitCode=1)
    (result,) = world({"a": "NOAUTH Authentication required\nbye\n"}, [gone])
    assert (result["status"], result["line"]) == ("failed", "NOAUTH Authentication required")


@pytest.mark.parametrize(
    "changes",
    [
        {"RestartCount": 1},
        {"StartedAt": "2026-11-24T04:02:00Z", "FinishedAt": "2026-11-24T04:01:59Z"},
        {"RestartCount": 1, "Restarting": True, "Status": "restarting"},
    ],
)
def test_another_start_is_a_failure_although_the_container_runs(world, changes):
    (result,) = world({"a": "Started AApplication\n"}, [container("a", **changes)], quiet=5)
    assert result["status"] == "restarted"


def test_a_container_restarted_since_the_change_has_failed_already(world):
    crashed = [container("a", RestartCount=2, FinishedAt="2026-11-24T04:01:32Z")]
    since = logs.moment("2026-11-24T04:01:00Z")
    assert world({"a": "Started AApplication\n"}, before=crashed, since=since)[0]["status"] == "restarted"
    assert world({"a": "Started AApplication\n"}, before=crashed, since=since + 60)[0]["status"] == "ok"
    assert world({"a": "Started AApplication\n"}, before=crashed)[0]["status"] == "ok"


def test_a_removed_container_is_a_failure(world):
    both = [container("a"), container("b")]
    results = world({"a": "x\n", "b": "x\n"}, both[:1], both, error="Error: No such container: b")
    assert [row["status"] for row in results] == ["waiting", "gone"]


def test_an_engine_that_does_not_answer_is_one_clear_line(world):
    with pytest.raises(SecretsError, match="docker container inspect failed: Cannot connect to the Docker daemon"):
        world({"a": "x\n"}, [], [container("a")], error="Cannot connect to the Docker daemon")


def test_a_container_that_was_never_started_says_so(world):
    made = container("a", Running=False, Status="created", StartedAt="0001-01-01T00:00:00Z")
    (result,) = world({"a": ""}, [made], [made])
    assert result["reason"] == "was never started"


# -- a saved log


def test_a_saved_log_holds_no_secret_even_across_pieces_and_lines(docker, tmp_path):
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----"
    tabbed = "tab\there, no key"
    (tmp_path / "log").write_text(f"one {SECRET}\n{tabbed}\n\x1b[31mtwo\x1b[0m {'x' * 40000}{SECRET}\n{key}\nlast")
    text = logs.masked_log(docker(f"cat {tmp_path}/log >&2"), "c1", Masker([SECRET, key, tabbed]))
    assert SECRET not in text and "MIIE" not in text and "\x1b" not in text
    assert text.startswith(f"one {MASK}\n{MASK}\ntwo xxx") and text.endswith("\nlast\n")


def test_a_saved_log_is_bounded_and_its_cut_shows_no_part_of_a_secret(docker, monkeypatch):
    monkeypatch.setattr(logs, "SAVED", 100_001)
    text = logs.masked_log(docker(f"yes '{SECRET}' | tr -d '\\n' | head -c 777777"), "c1", Masker([SECRET]))
    assert len(text) < 210_000 and text.startswith("(the beginning is left out)\n")
    assert not re.search(r"[^*]", text.split("\n", 1)[1].strip().removesuffix(SECRET[: 777777 % len(SECRET)]))
