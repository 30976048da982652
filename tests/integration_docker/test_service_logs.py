# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service_logs module, run as Ansible runs it, reads real containers' logs rightly."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.logs import LogWatch, masked_log, patterns, run_began
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import MASK, Masker
from ansible_collections.chat4all.secrets.plugins.modules import service_logs

PROJECT = "logs-test"
IMAGE = "chat4all-test/consumer:1"
PASSWORD = "s3cr3t-V4lue~with.every_CLASS-00"
HEX = PASSWORD.encode().hex()
BASIC = base64.b64encode(f"chat4all:{PASSWORD}".encode()).decode()

READY = "echo 'Started FooApplication in 1.2 seconds'"
REFUSED = "echo 'FATAL: password authentication failed for user \"chat4all\"' >&2"
SLEEP = "exec sleep 600"

# What each service of the project does.
SCRIPTS = {
    "good": f"{READY}; {SLEEP}",
    "errors": f"{READY} >&2; {SLEEP}",
    "slow": f"sleep 1; {READY}; {SLEEP}",
    "refused": f"echo hello; {REFUSED}; {SLEEP}",
    "later": f"{READY}; sleep 1; {REFUSED}; {SLEEP}",
    "ends": f"{READY}; exit 0",
    "crashes": f"{READY}; echo 'panic: no luck'; exit 3",
    "loops": f"{READY}; sleep 0.3; exit 1",
    "silent": f"echo 'still busy with {PASSWORD}'; {SLEEP}",
    "many": SLEEP,
    "empty": SLEEP,
    "unread": f"{READY}; {SLEEP}",
    "terminal": f"printf '\\033[2J\\033[31mStarted \\033[1mFooApplication\\033[0m\\n'; {SLEEP}",
    "broken": f"printf '\\377\\376\\033]0;owned\\007 Started \\200FooApplication\\n'; {SLEEP}",
    "endless": f"head -c 20000000 /dev/zero | tr '\\0' x; {READY}; head -c 100000 /dev/zero | tr '\\0' y; {SLEEP}",
    "leaks": f"echo 'postgresql://chat4all:{PASSWORD}@db {BASIC} {HEX} Started FooApplication'; {SLEEP}",
    # The first line of every run tells its number; a run whose number is odd is never ready.
    "again": (
        "n=$(cat /tmp/n 2>/dev/null || echo 0); "
        "if [ $((n % 2)) = 0 ]; then echo Started Run${n}Application; else echo run $n; fi; "
        f"echo $((n + 1)) > /tmp/n; {SLEEP}"
    ),
}
EXTRA = {
    "loops": {"restart": "always"},
    "unread": {"logging": {"driver": "none"}},
    "terminal": {"tty": True},
    "leaks": {"environment": {"SPRING_DATASOURCE_PASSWORD": "${DB_PASSWORD}"}},
}


class Project:
    """A Compose project with one service for each case; a test starts what it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        services = {
            name: {
                "image": IMAGE,
                "entrypoint": ["sh", "-c", script.replace("$", "$$")],
                "init": True,
                "network_mode": "none",
                **EXTRA.get(name, {}),
            }
            for name, script in SCRIPTS.items()
        }
        (folder / "compose.yaml").write_text(json.dumps({"name": PROJECT, "services": services}))
        (folder / ".env").write_text(f"DB_PASSWORD={PASSWORD}\n")

    def compose(self, *arguments: str) -> None:
        done = docker("compose", "--project-directory", str(self.folder), *arguments)
        assert done.returncode == 0, done.stderr

    def up(self, *services: str) -> None:
        self.compose("up", "--detach", "--force-recreate", *services)

    def start_module(self, **arguments) -> subprocess.Popen[str]:
        """Start the module as Ansible does, with its arguments in a file."""
        given = {"project_dir": str(self.folder), "timeout": 100, "quiet": 0, **arguments}
        file = self.folder / "arguments.json"
        file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
        return subprocess.Popen(
            [sys.executable, service_logs.__file__, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def module(self, **arguments) -> dict:
        """Run the module and return its result; whatever it says, it leaves no process behind and shows no secret."""
        process = self.start_module(**arguments)
        stdout, stderr = process.communicate(timeout=150)
        assert "Traceback" not in stderr and stdout, stderr
        assert PASSWORD not in stdout and BASIC not in stdout
        assert followers() == []
        result = json.loads(stdout)
        assert process.returncode == (1 if result.get("failed") else 0)
        return result


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def ids() -> list[str]:
    return docker("ps", "-aq", "--no-trunc", "--filter", f"label=com.docker.compose.project={PROJECT}").stdout.split()


def followers() -> list[str]:
    """Return the ``docker logs`` processes that follow a container of ours, dead ones included."""
    found, ours = [], ids()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "--follow" in words and any(word in ours for word in words):
            found.append(" ".join(words))
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp(PROJECT))
    try:
        yield project
    finally:
        project.compose("down", "--timeout", "0", "--volumes", "--remove-orphans")
        assert ids() == []


def test_a_line_of_success_is_found_on_either_stream_and_later(project):
    project.up("good", "errors", "slow")
    result = project.module(services=["good", "errors", "slow"])
    assert result["changed"] is False
    assert sorted(row["service"] for row in result["containers"]) == ["errors", "good", "slow"]
    assert {row["status"] for row in result["containers"]} == {"ok"}
    assert {row["line"] for row in result["containers"]} == {"Started FooApplication in 1.2 seconds"}
    assert result["seconds"] < 50


@pytest.mark.parametrize(
    ("service", "status", "message"),
    [
        ("refused", "failed", 'its log says "FATAL: password authentication failed for user "chat4all""'),
        ("later", "failed", 'its log says "FATAL: password authentication failed for user "chat4all""'),
        ("ends", "exited", 'exited with code 0; its last line: "Started FooApplication in 1.2 seconds"'),
        ("crashes", "exited", 'exited with code 3; its last line: "panic: no luck"'),
        (
            "unread",
            "unreadable",
            "its log cannot be read by docker logs: Error response from daemon: configured logging",
        ),
    ],
)
def test_what_is_wrong_ends_it_at_once(project, service, status, message):
    project.up(service)
    result = project.module(services=[service], quiet=100)
    assert result["failed"] and result["msg"].startswith(f"{PROJECT}-{service}-1: {message}")
    assert "\n" not in result["msg"]
    assert result["containers"][0]["status"] == status
    assert result["seconds"] < 50


def test_a_restart_loop_ends_it_at_once(project):
    project.up("loops")
    result = project.module(services=["loops"], quiet=100)
    assert result["containers"][0]["status"] in ("restarted", "exited")
    assert result["seconds"] < 50
    # Where it had been restarted before the first look, nothing was read.
    assert result["containers"][0]["line"] in ("", "Started FooApplication in 1.2 seconds")


def test_silence_is_a_time_out(project):
    project.up("silent", "empty")
    result = project.module(services=["silent"], timeout=3, mask_variables=["DB_PASSWORD"])
    assert result["msg"].startswith(
        f'{PROJECT}-silent-1: no line of success within 3 s; its last line: "still busy with {MASK}"'
    )
    assert 3 <= result["seconds"] < 50
    result = project.module(services=["empty"], timeout=0.5)
    assert "no line of success within 0.5 s; its log is empty" in result["msg"]


def test_the_quiet_time_is_kept(project):
    project.up("good")
    began = time.monotonic()
    assert project.module(services=["good"], quiet=2)["containers"][0]["status"] == "ok"
    assert time.monotonic() - began >= 2


def test_a_failure_pattern_of_ones_own_counts(project):
    project.up("slow")
    result = project.module(services=["slow"], failure=["in [0-9.]+ seconds"])
    assert result["containers"][0]["status"] == "failed"


def test_an_earlier_run_of_the_same_container_does_not_count(project):
    project.up("again")
    assert project.module(services=["again"])["line"] == "Started Run0Application"
    docker("restart", "--time", "0", f"{PROJECT}-again-1")
    result = project.module(services=["again"], timeout=3)
    assert result["containers"][0]["status"] == "timed_out" and result["line"] == "run 1"


def test_only_what_was_started_since_is_looked_at(project):
    project.up("good")
    now = docker("inspect", "--format", "{{.State.StartedAt}}", f"{PROJECT}-good-1").stdout.strip()
    assert project.module(services=["good"], started_after=now)["containers"][0]["status"] == "ok"
    time.sleep(1)
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    result = project.module(services=["good"], started_after=later)
    assert result["msg"] == f"good: was not started since {later}"
    project.compose("up", "--detach", "--no-recreate", "--scale", "good=2", "good")
    result = project.module(services=["good"], started_after=later)
    assert [row["name"] for row in result["containers"]] == [f"{PROJECT}-good-2"]


def test_each_container_of_a_service_has_its_result(project):
    project.compose("up", "--detach", "--force-recreate", "--scale", "many=3", "many")
    process = project.start_module(services=["many"])
    while len(followers()) < 3:
        time.sleep(0.05)
        assert process.poll() is None
    # One follower for each, and the end of one container ends it for all.
    assert len(followers()) == 3
    killed = time.monotonic()
    assert docker("kill", f"{PROJECT}-many-2").returncode == 0
    result = json.loads(process.communicate(timeout=150)[0])
    assert time.monotonic() - killed < 50
    assert result["msg"].startswith(f"{PROJECT}-many-2: exited with code 137")
    assert {row["name"]: row["status"] for row in result["containers"]} == {
        f"{PROJECT}-many-1": "waiting",
        f"{PROJECT}-many-2": "exited",
        f"{PROJECT}-many-3": "waiting",
    }
    assert followers() == []


def test_a_removed_container_is_told(project):
    project.up("silent")
    process = project.start_module(services=["silent"])
    while not followers():
        time.sleep(0.05)
        assert process.poll() is None
    assert docker("rm", "--force", f"{PROJECT}-silent-1").returncode == 0
    result = json.loads(process.communicate(timeout=150)[0])
    # The engine kills it first, and that may be what is seen.
    assert result["containers"][0]["status"] in ("gone", "exited") and "silent-1: " in result["msg"]


def test_a_service_without_containers_is_one_clear_line(project):
    project.compose("up", "--detach", "--scale", "empty=0", "empty")
    assert project.module(services=["empty"])["msg"] == (
        "empty: has no container; start it first: docker compose up -d empty"
    )
    assert project.module(services=["nobody"])["msg"].startswith("nobody: no such service in ")
    assert project.module(services=["empty"], success=["("])["msg"].startswith(
        "success: '(' is not a regular expression"
    )


def test_a_container_that_was_never_started_is_told(project):
    project.compose("create", "--force-recreate", "empty")
    result = project.module(services=["empty"])
    assert "empty-1: was never started" in result["msg"]


@pytest.mark.parametrize("service", ["terminal", "broken"])
def test_what_a_terminal_would_obey_is_not_shown(project, service):
    project.up(service)
    line = project.module(services=[service], success=["Started .*Application"])["line"]
    assert line.isprintable() and line.strip("\ufffd ").startswith("Started")


def test_a_line_without_end_hides_nothing_and_fills_no_memory(project):
    project.up("endless")
    process = project.start_module(services=["endless"])
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        peak = max([peak, *(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmRSS"))])
        time.sleep(0.02)
    result = json.loads(process.communicate(timeout=150)[0])
    assert not result.get("failed"), result
    assert "Started FooApplication in 1.2 seconds" in result["line"] and len(result["line"]) <= 300
    assert 0 < peak < 100_000  # kB; the line has 20 MB


def test_secrets_in_a_line_are_masked_in_every_form(project):
    project.up("leaks")
    for variables in ([], ["DB_PASSWORD"]):
        result = project.module(services=["leaks"], mask_variables=variables)
        assert result["line"].startswith(f"postgresql://chat4all:{MASK}@db ")
        # Of the base64 of user:password, the user may remain.
        assert BASIC[14:30] not in result["line"] and HEX not in result["line"]


def test_ended_by_somebody_it_ends_its_followers(project):
    project.up("silent")
    process = project.start_module(services=["silent"])
    while not followers():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert followers() == []


def test_check_mode_reads_no_log(project):
    project.up("silent")
    result = project.module(services=["silent"], _ansible_check_mode=True)
    assert result["skipped"] and "containers" not in result


# -- what logs.py promises to those who use it


def test_a_watch_begun_after_the_start_misses_nothing_and_ends_with_the_container(project):
    project.compose("create", "--force-recreate", "crashes")
    name = f"{PROJECT}-crashes-1"
    threads = threading.active_count()
    success = patterns([r"Started \w*Application"], "success")
    with LogWatch(DockerCli(), name, success, [], Masker()) as watch:
        # Never started: there is nothing to follow, not even later.
        assert watch.finish().status == "waiting"
    docker("start", name)
    docker("wait", name)
    with LogWatch(DockerCli(), name, success, [], Masker()) as watch:
        assert watch.finish().status == "matched"
        assert watch.last() == "panic: no luck"
    assert threading.active_count() == threads


def test_a_run_is_read_from_its_very_first_line_and_not_from_before_it(project):
    project.up("again")
    name = f"{PROJECT}-again-1"
    # The engine's StartedAt is some milliseconds after the first line about every second time.
    for number in range(12):
        state = json.loads(docker("inspect", "--format", "{{json .State}}", name).stdout)
        with LogWatch(DockerCli(), name, patterns(["[Rr]un"], "success"), [], Masker(), run_began(state)) as watch:
            while watch.poll().status == "waiting":
                time.sleep(0.02)
                assert watch.elapsed() < 20, f"the first line of run {number} was missed"
        assert watch.poll().line in (f"Started Run{number}Application", f"run {number}")
        docker("restart", "--time", "0", name)


def test_a_saved_log_holds_no_secret(project):
    project.up("leaks")
    assert not project.module(services=["leaks"]).get("failed")
    text = masked_log(DockerCli(), f"{PROJECT}-leaks-1", Masker([PASSWORD]))
    assert "Started FooApplication" in text and text.count(MASK) == 3
    assert PASSWORD not in text and BASIC[14:30] not in text and HEX not in text
