# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A roll-out against the real Compose: what may happen to whom, in which order, and what is left after a crash."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import rollout
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import encoded_forms
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import unseal
from ansible_collections.chat4all.secrets.plugins.module_utils.state import kernel_lock
from ansible_collections.chat4all.secrets.plugins.modules import catalog_info, compose_rollout
from sandbox import Sandbox, service

OLD, NEW = "first-value-0123", "second-value-4567"
DEFAULTS: dict[str, Any] = {
    "compose_files": [],
    "env_file": None,
    "project_name": None,
    "services": None,
    "options": {},
    "parallel": 16,
    "timeout": 60,
    "quiet": 0.3,
    "settle": 0,
    "failure_log": [],
    "mask_variables": ["PW"],
    "accept_weak": False,
    "fingerprints": {},
    "fingerprint_key": None,
    "log_dir": None,
    "progress": None,
    "state_dir": None,
    "holder": None,
    "ledger": [],
}
# A service that breaks in one way with the new value, and works with the old one.
ON_NEW = f'case "$$PW" in {NEW}) %s;; esac; exec sleep infinity'


class Box(Sandbox):
    """A sandbox whose services get a new value, and are rolled."""

    def start(self, services: dict[str, Any], *arguments: str, **more: Any) -> None:
        self.set(OLD)
        self.write(services, **more)
        self.up(*arguments)
        self.set(NEW)

    def roll(self, check: bool = False, **given: Any) -> dict[str, Any]:
        result = compose_rollout.roll({**DEFAULTS, "project_dir": str(self.folder), **given}, check)
        shown = json.dumps(result)
        assert not [form for value in (OLD, NEW) for form in encoded_forms(value) if form in shown]
        return result

    def failing(self, **given: Any) -> SecretsError:
        with pytest.raises(SecretsError) as caught:
            self.roll(**given)
        shown = caught.value.message + json.dumps(caught.value.details)
        assert not [form for value in (OLD, NEW) for form in encoded_forms(value) if form in shown]
        assert "\n" not in caught.value.message
        return caught.value

    def settled(self, *expected: tuple[str, str, str]) -> None:
        """Every container is as expected, and neither we nor a plain ``docker compose up -d`` would change any."""
        assert self.values() == sorted(expected)
        names = {one.name for one in self.containers()}
        again = self.roll()
        assert (again["changed"], again["waves"]) == (False, [])
        assert self.recreated_by_up() == []
        assert {one.name for one in self.containers()} >= names


@pytest.fixture
def box(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    sandbox = Box(folder, "rollout")
    yield sandbox
    sandbox.remove()


def test_waves_of_job_and_services(box, tmp_path):
    progress = tmp_path / "runs" / "progress.jsonl"
    box.start(
        {
            "db": service(environment={}),
            "job": service("exit 0", depends_on={"db": {"condition": "service_healthy"}}),
            "a": service(depends_on={"job": {"condition": "service_completed_successfully"}}),
            "b": service(depends_on={"job": {"condition": "service_completed_successfully"}}),
            "gateway": service(depends_on=["a", "b"]),
        },
        "--scale",
        "a=2",
    )
    database = box.ids("db")
    plan = box.roll(check=True, options={"job": {"rerun": "safe"}})
    result = box.roll(options={"job": {"rerun": "safe"}}, progress=str(progress))
    assert plan["waves"] == result["waves"] == [["job"], ["a", "b"], ["gateway"]]
    assert {
        name: (done["mode"], done["evidence"], done["gap_s"], len(done["new"]))
        for name, done in result["services"].items()
    } == {
        "job": ("job", "exit code 0", 0, 1),
        "a": ("start_first", "health check", 0, 2),
        "b": ("start_first", "health check", 0, 1),
        "gateway": ("start_first", "health check", 0, 1),
    }
    assert box.ids("db") == database
    assert box.values() == [
        ("a", "running", NEW),
        ("a", "running", NEW),
        ("b", "running", NEW),
        ("db", "running", ""),
        ("gateway", "running", NEW),
        ("job", "exited", NEW),
    ]
    assert box.roll(options={"job": {"rerun": "safe"}})["changed"] is False
    # Plain `up` would take the second `a` away, as it always does with a scale given by hand; it recreates nothing.
    assert box.recreated_by_up() == []
    rows = [json.loads(line) for line in progress.read_text().splitlines()]
    assert [row["service"] for row in rows] == ["job", "a", "b", "gateway"]
    assert rows[1]["text"].startswith("a 2/2 healthy on new, old removed (")
    assert (progress.stat().st_mode & 0o777, max(len(row["text"]) for row in rows) <= 80) == (0o600, True)


def test_a_plan_touches_nothing(box):
    box.start({"a": service(), "fixed": service(container_name="test-rollout-fixed")})
    before = box.ids()
    plan = box.roll(check=True)
    assert {name: (todo["mode"], todo["reason"]) for name, todo in plan["services"].items()} == {
        "a": ("start_first", ""),
        "fixed": ("stop_first", "fixed container_name"),
    }
    assert box.ids() == before
    assert not (box.folder / ".chat4all").exists()


def test_the_old_container_runs_until_the_new_one_is_healthy(box, monkeypatch):
    slow = {"test": ["CMD", "test", "-e", "/tmp/ready"], "interval": "200ms", "retries": 100}
    box.start({"a": service("sleep 2; touch /tmp/ready; exec sleep infinity", healthcheck=slow)})
    [old], seen, real = box.ids("a"), [], DockerCli.run

    def run(self: DockerCli, *arguments: str, **options: Any) -> Any:
        if arguments[0] in ("stop", "rm"):
            health = {one.id: one.health for one in box.containers("a")}
            seen.append((arguments[0], old in arguments, [health[one] for one in health if one != old]))
        return real(self, *arguments, **options)

    monkeypatch.setattr(DockerCli, "run", run)
    assert box.roll()["services"]["a"]["seconds"] >= 2
    assert seen == [("stop", True, ["healthy"]), ("rm", True, ["healthy"])]


def test_a_fixed_name_is_stopped_first_and_its_gap_measured(box):
    box.start({"a": service("trap 'sleep 1; exit' TERM; sleep infinity & wait", container_name="test-rollout-fixed")})
    [_old] = box.containers("a")
    began = time.time()
    result = box.roll()
    done = result["services"]["a"]
    assert (done["mode"], done["new"]) == ("stop_first", ["test-rollout-fixed"])
    # The old one takes a second to stop.
    assert 1 <= done["gap_s"] < time.time() - began
    box.settled(("a", "running", NEW))


def test_an_anonymous_volume_is_handed_on(box):
    box.start({"a": service(volumes=["/data"], user="0")})
    box.docker("exec", box.containers("a")[0].name, "touch", "/data/kept")
    assert box.roll()["services"]["a"]["mode"] == "stop_first"
    box.docker("exec", box.containers("a")[0].name, "test", "-e", "/data/kept")
    box.settled(("a", "running", NEW))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (f"echo cannot log in with {NEW}; exit 3", "ended with exit code 3"),
        ("echo FATAL: password authentication failed for user x", "password authentication failed"),
        ("rm /tmp/ok", "its health check fails"),
    ],
)
def test_a_service_that_fails_leaves_the_old_ones_running(box, tmp_path, fault, reason):
    check = {"test": ["CMD", "test", "-e", "/tmp/ok"], "interval": "200ms", "retries": 2, "start_period": "0s"}
    box.start(
        {"good": service(), "bad": service("touch /tmp/ok; " + ON_NEW % fault, healthcheck=check)}, "--scale", "good=2"
    )
    before = box.ids()
    error = box.failing(log_dir=str(tmp_path / "logs"))
    assert error.message.startswith("bad failed: ") and reason in error.message
    assert error.details["service"] == "bad"
    assert box.ids() == before
    log = Path(error.details["log"])
    assert (log.name, log.stat().st_mode & 0o777) == ("bad.log", 0o600)
    assert NEW not in log.read_text()
    # Back to the old value: nothing is left to do.
    box.set(OLD)
    assert box.roll()["changed"] is False
    assert box.ids() == before


def test_a_crash_loop_ends_the_wait_at_once(box):
    box.start({"a": service(ON_NEW % "exit 1", restart="always")})
    began = time.monotonic()
    assert "a failed" in box.failing().message
    assert time.monotonic() - began < 30
    assert box.values() == [("a", "running", OLD)]


def test_too_late_is_a_failure(box):
    slow = {"test": ["CMD", "false"], "interval": "1s", "start_period": "1m"}
    box.start({"a": service(), "b": service()})
    box.write({"a": service(), "b": service(healthcheck=slow)})
    error = box.failing(options={"b": {"timeout": 2}})
    assert "b failed: not ready within 2 s" in error.message
    assert box.values() == [("a", "running", OLD), ("b", "running", OLD)]


def test_a_later_wave_that_fails_is_rolled_back_by_the_old_value(box):
    box.start({"a": service(), "b": service(ON_NEW % "exit 1", depends_on=["a"])})
    assert box.failing().details["service"] == "b"
    assert box.values() == [("a", "running", NEW), ("b", "running", OLD)]
    box.set(OLD)
    assert list(box.roll()["services"]) == ["a"]
    box.settled(("a", "running", OLD), ("b", "running", OLD))


@pytest.mark.parametrize("restart", ["no", "always"])
def test_a_stop_first_service_that_fails_comes_back_with_the_old_value(box, restart):
    box.start({"a": service(ON_NEW % "exit 1", container_name="test-rollout-fixed", restart=restart)})
    assert "ended with exit code 1" in box.failing().message or restart == "always"
    assert OLD not in str(box.values())
    box.set(OLD)
    assert box.roll()["services"]["a"]["new"] == ["test-rollout-fixed"]
    box.settled(("a", "running", OLD))


def test_what_its_owner_has_stopped_stays_stopped_but_not_on_the_old_value(box):
    box.start(
        {
            "a": service(),
            "b": service(),
            "c": service(),
            "job": service("exit 0"),
            "z": service(depends_on={"job": {"condition": "service_completed_successfully"}}),
        }
    )
    box.compose("stop", "--timeout", "0", "b")
    box.compose("rm", "--stop", "--force", "c")
    box.compose("rm", "--stop", "--force", "job")
    result = box.roll()
    assert result["not_running"] == ["b", "c", "job"]
    assert result["services"]["b"]["mode"] == "stopped"
    assert box.values() == [("a", "running", NEW), ("b", "created", NEW), ("z", "running", NEW)]
    again = box.roll()
    assert (again["changed"], again["not_running"]) == (False, ["b", "c", "job"])


def test_services_that_are_not_named_keep_what_they_have(box):
    box.start(
        {
            "dep": service(),
            "a": service(depends_on=["dep"]),
            "fixed": service(container_name="test-rollout-fixed", depends_on=["dep"]),
        },
        "--scale",
        "dep=2",
    )
    kept = box.ids("dep")
    result = box.roll(services=["a", "fixed"])
    assert sorted(result["services"]) == ["a", "fixed"]
    assert box.ids("dep") == kept
    assert box.values("a", "fixed") == [("a", "running", NEW), ("fixed", "running", NEW)]


def test_an_anonymous_volume_is_not_lost_for_a_service_that_stays_stale(box):
    box.start({"dep": service(), "a": service(volumes=["/data"], depends_on=["dep"])})
    before = box.ids()
    assert "anonymous volume" in box.failing(services=["a"]).message
    assert box.ids() == before


def test_orphans_one_offs_and_profiles(box):
    box.start({"a": service(), "orphan": service(), "hidden": service(profiles=["x"])}, "a", "orphan", "hidden")
    box.compose("run", "--detach", "--no-deps", "--name", "test-rollout-oneoff", "a")
    services = {"a": service(), "hidden": service(profiles=["x"])}
    box.write(services)
    before = set(
        box.docker("ps", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.project={box.name}").split()
    )
    assert sorted(box.roll()["services"]) == ["a", "hidden"]
    after = set(
        box.docker("ps", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.project={box.name}").split()
    )
    assert len(before & after) == 2
    assert box.values("a", "hidden") == [("a", "running", NEW), ("hidden", "running", NEW)]


def test_an_old_container_that_does_not_want_to_go(box):
    deaf = service("trap '' TERM; sleep infinity & wait; sleep infinity", init=False, stop_grace_period="1s")
    box.start({"deaf": deaf})
    began = time.monotonic()
    box.roll()
    assert time.monotonic() - began < 30
    box.settled(("deaf", "running", NEW))


def test_a_paused_container_is_its_owners_business(box):
    box.start({"a": service(), "frozen": service()})
    box.docker("pause", box.containers("frozen")[0].id)
    before = box.ids()
    assert "frozen-1 is paused" in box.failing().message
    assert box.ids() == before


def test_secrets_from_variables_are_seen_although_the_hash_stays(box):
    box.start(
        {
            "a": service(environment={}, secrets=["pw"]),
            "fixed": service(environment={}, secrets=["pw"], container_name="test-rollout-fixed"),
        },
        secrets={"pw": {"environment": "PW"}},
    )
    assert sorted(box.roll()["services"]) == ["a", "fixed"]
    for container in box.containers():
        assert box.docker("exec", container.id, "cat", "/run/secrets/pw") == NEW
    box.settled(("a", "running", ""), ("fixed", "running", ""))


def test_a_whole_env_file_is_a_configuration_like_any_other(box):
    box.start({"a": service(environment={}, env_file=[".env"])})
    assert sorted(box.roll()["services"]) == ["a"]
    box.settled(("a", "running", NEW))


def test_what_follows_a_replacement_is_run_before_and_after_the_old_one_goes(box):
    box.start(
        {"proxy": service("touch /tmp/calls; exec sleep infinity", environment={}), "a": service(), "b": service()}
    )
    after = {"service": "proxy", "exec": "sh -c 'hostname >> /tmp/calls'"}
    box.roll(options={"a": {"after": after}, "b": {"after": after}})
    calls = box.docker("exec", box.containers("proxy")[0].id, "cat", "/tmp/calls").split()
    assert len(calls) == 2
    box.set(OLD)
    before = box.ids()
    error = box.failing(options={"a": {"after": {"service": "proxy", "exec": "false"}}})
    assert "a failed: after, in proxy: exit code 1" in error.message
    assert box.ids() == before


def test_refused_before_anything_is_touched(box):
    box.start(
        {
            "job": service("exit 0"),
            "a": service(depends_on={"job": {"condition": "service_completed_successfully"}}),
            "weak": service(healthcheck={"disable": True}),
        }
    )
    before = box.ids()
    assert "rerun: safe" in box.failing().message
    assert "neither health check nor log pattern" in box.failing(services=["a", "weak"]).message
    assert "nothing: no such service" in box.failing(services=["nothing"]).message
    assert (
        "secrets_services.a.after: needs service and exec"
        in box.failing(options={"a": {"after": {"exec": "x"}}}).message
    )
    assert "not a regular expression" in box.failing(options={"a": {"ready_log": "("}}).message
    with kernel_lock(str(box.folder / ".chat4all")):
        assert "run the same command later" in box.failing().message
    assert box.ids() == before


def test_a_log_line_is_evidence_too(box):
    box.start(
        {"weak": service("sleep 1; echo Started WeakApplication; exec sleep infinity", healthcheck={"disable": True})}
    )
    result = box.roll(options={"weak": {"ready_log": "Started .*Application"}})
    assert result["services"]["weak"]["evidence"] == 'log "Started .*Application"'
    box.settled(("weak", "running", NEW))


def test_a_failed_job_runs_again(box):
    code = box.folder / "code"
    code.write_text("0")
    code.chmod(0o644)
    job = service("exit $$(cat /code)", volumes=["./code:/code:ro"])
    box.start({"job": job, "a": service(depends_on={"job": {"condition": "service_completed_successfully"}})})
    code.write_text("4")
    options = {"job": {"rerun": "safe"}}
    assert "job failed: ended with exit code 4" in box.failing(options=options).message
    code.write_text("0")
    assert sorted(box.roll(options=options)["services"]) == ["a", "job"]
    box.settled(("a", "running", NEW), ("job", "exited", NEW))


class Killed(BaseException):
    """Stands for kill -9: nothing of ours cleans up after it."""


CHANGING = ("create", "start", "stop", "rm", "rename")


def run_and_kill(box: Box, monkeypatch: pytest.MonkeyPatch, number: int, before: bool) -> bool:
    """Roll out and die before or after the ``number``-th command that changes something; return whether it did."""
    real, count = DockerCli.run, 0

    def run(self: DockerCli, *arguments: str, **options: Any) -> Any:
        nonlocal count
        changes = set(CHANGING) & set(arguments) and "--dry-run" not in arguments
        count += bool(changes)
        if changes and count >= number and before:
            raise Killed
        done = real(self, *arguments, **options)
        if changes and count >= number:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(DockerCli, "run", run)
        try:
            box.roll(options={"job": {"rerun": "safe"}})
        except Killed:
            return True
    return False


def test_killed_anywhere_it_goes_on_from_there(box, monkeypatch):
    services = {
        "job": service("exit 0"),
        "a": service(depends_on={"job": {"condition": "service_completed_successfully"}}, deploy={"replicas": 2}),
        "fixed": service(container_name="test-rollout-fixed"),
        "stopped": service(),
    }
    box.set(OLD)
    box.write(services)
    box.up()
    box.compose("stop", "--timeout", "0", "stopped")
    values, number, killed = [OLD, NEW], 0, True
    while killed:
        number += 1
        value = values[number % 2]
        box.set(value)
        killed = run_and_kill(box, monkeypatch, number, before=bool(number % 3))
        # A second death, a little further on.
        if killed and number % 2:
            run_and_kill(box, monkeypatch, 1, before=False)
        box.roll(options={"job": {"rerun": "safe"}})
        assert box.values() == [
            ("a", "running", value),
            ("a", "running", value),
            ("fixed", "running", value),
            ("job", "exited", value),
            ("stopped", "created", value),
        ], number
        assert [one.name for one in box.containers("fixed")] == ["test-rollout-fixed"]
        assert box.roll()["changed"] is False
    assert number > 8
    assert box.recreated_by_up() == []


@pytest.mark.parametrize("given", [None, ".env.production"])
def test_a_stack_started_with_another_env_file_is_read_and_rolled_with_it(box, given):
    (box.folder / ".env").write_text(f"COMPOSE_PROJECT_NAME={box.name}\nPW=decoy-value-0123\nWHO=decoy\n")
    named = box.folder / ".env.production"

    def publish(value: str) -> None:
        named.write_text(f"COMPOSE_PROJECT_NAME={box.name}\nPW={value}\nWHO=app\n")

    publish(OLD)
    box.write({"db": service(environment={}), "a": service(environment={"PW": "${PW}", "WHO": "${WHO}"})})
    box.compose("--env-file", ".env.production", "up", "--detach")
    publish(NEW)
    key, catalog = (
        secrets.token_bytes(32),
        {"db": {"engine": "postgresql", "variables": {"user": "WHO", "password": "PW"}}},
    )
    facts = catalog_info.examine(
        {
            **{name: option.get("default") for name, option in catalog_info.OPTIONS.items()},
            "project_dir": str(box.folder),
            "env_file": given,
            "catalog": catalog,
            "seal_key": key.hex(),
        }
    )
    assert facts["project"]["env_file"] == str(named)
    assert json.loads(unseal(key, facts["sealed"])) == {"db": {"WHO": "app", "PW": NEW}}
    assert box.roll(env_file=given)["services"]["a"]["replaced"] == 1
    assert box.values("a") == [("a", "running", NEW)]
    before = box.ids()
    box.compose("--env-file", ".env.production", "up", "--detach")
    assert box.ids() == before


def test_what_another_service_lives_inside_is_planned_and_refused(box):
    box.start({"vpn": service(), "app": service(network_mode="service:vpn")})
    before = box.ids()
    assert box.roll(services=["app"], check=True)["services"]["app"]["mode"] == "stop_first"
    assert "vpn: app runs inside vpn's network" in box.failing().message
    assert box.ids() == before


def test_an_older_password_inside_a_url_is_masked_too(box, tmp_path):
    script = f"echo logged in with {OLD}; echo cannot log in with $$PW; exit 3"
    url = {"DATABASE": "postgresql://app:${PW}@db:5432/app", "PW": "${PW}"}
    box.start({"a": service(f'case "$$PW" in {NEW}) {script};; esac; exec sleep infinity', environment=url)})
    log = Path(box.failing(log_dir=str(tmp_path / "logs"), mask_variables=[]).details["log"]).read_text()
    assert "logged in with ********" in log and "cannot log in with ********" in log


def _full(*_arguments: Any, **_options: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("target", "broken", "said"),
    [
        ("atomic_write", _full, "its log could not be saved: OSError: [Errno 28] No space left"),
        (
            "masked_log",
            lambda *_arguments: 1 / 0,
            "its log could not be saved: ZeroDivisionError: ",
        ),
    ],
)
def test_a_log_that_cannot_be_saved_leaves_no_new_containers(box, monkeypatch, tmp_path, target, broken, said):
    box.start({"a": service(ON_NEW % "exit 3")})
    before = box.ids()
    with monkeypatch.context() as patch:
        # The journal is written in the same way: only the log's turn fails.
        patch.setattr(rollout.Rollout, "_save_log", _breaking(rollout.Rollout._save_log, target, broken))
        error = box.failing(log_dir=str(tmp_path / "logs"))
    assert error.message.startswith("a failed: ended with exit code 3") and said in error.message
    assert error.details == {"service": "a", "reason": "ended with exit code 3", "waited": ANY, "log": ""}
    assert box.ids() == before


def _breaking(work: Any, target: str, broken: Any) -> Any:
    def broken_work(self: Any, failure: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rollout, target, broken)
            return work(self, failure)

    return broken_work


@pytest.mark.parametrize("error", [ValueError(f"bad {NEW}"), KeyError("x"), OSError(28, "No space left on device")])
def test_whatever_breaks_leaves_no_new_containers(box, monkeypatch, error):
    box.start({"a": service()})
    before = box.ids()

    def broken(*_arguments: Any) -> bool:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(rollout.Rollout, "_is_ready", broken)
        said = box.failing().message
    assert said.startswith(f"the roll-out broke: {type(error).__name__}: ")
    assert box.ids() == before
    # Nothing stands in the way of the next run.
    assert box.roll()["services"]["a"]["replaced"] == 1


def test_a_line_of_progress_that_cannot_be_written_ends_nothing(box, tmp_path):
    (tmp_path / "file").write_text("")
    box.start({"a": service()})
    assert box.roll(progress=str(tmp_path / "file" / "progress.jsonl"))["services"]["a"]["replaced"] == 1
