# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a roll-out makes of the containers it finds, without Docker. The rest is seen with the real one."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import ServiceOptions, service_options
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import Completed, DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.rollout import (
    Failure,
    Journal,
    Replacement,
    Rollout,
    Settings,
)


def container(
    service: str, identity: str, status: str = "running", exit_code: int = 0, name: str = "", config: str = ""
) -> Container:
    return Container(
        id=identity,
        name=name or f"demo-{service}-{identity}",
        service=service,
        number=1,
        config_hash=config,
        image="",
        image_id="",
        running=status in ("running", "paused", "restarting"),
        status=status,
        health=None,
        exit_code=exit_code,
        restarting=status == "restarting",
        created=0,
        started_at="",
    )


class FakeProject:
    """A project of services ``a`` and ``job``; containers whose id begins with ``old`` are stale."""

    directory = "/srv/demo"

    def __init__(
        self, *containers: Container, evidence: str = "health check", mode: str = "start_first", inside: str = ""
    ) -> None:
        self.docker = DockerCli(executable="/no/docker")
        self.services = {"a": SimpleNamespace(is_job=False), "job": SimpleNamespace(is_job=True)}
        self.found, self.shown, self.mode, self.joined = containers, evidence, mode, inside

    def containers(self, _services):
        return list(self.found)

    def stale(self, containers):
        return {one.id for one in containers if one.id.startswith("old")}

    def waves(self, names):
        return [[name] for name in sorted(names, reverse=True)]

    def replace_mode(self, _name, _options):
        return self.mode, "fixed container_name" if self.mode == "stop_first" else ""

    def inside(self, _name):
        return self.joined

    def evidence(self, _name, _options):
        return self.shown


def rollout(*containers: Container, options=None, state_dir=None, **project) -> Rollout:
    found = FakeProject(*containers, **project)
    given = service_options(options or {"job": {"rerun": "safe"}}, found.services, found.directory)
    return Rollout(found, Settings(["a", "job"], given, state_dir=state_dir), Masker())


def plan(*states: str, service: str = "a", wanted: int = 0, tmp_path=None, **project):
    """Return (mode, number) that is planned for containers such as ``old running``; ``None`` for nothing to do."""
    containers = []
    for index, state in enumerate(states):
        age, status, *rest = state.split()
        number, *name = rest or ["0"]
        containers.append(container(service, f"{age}{index}", status, int(number), *name, config=age))
    if wanted:
        Journal(str(tmp_path)).add({service: wanted})
    waves = rollout(*containers, state_dir=str(tmp_path) if tmp_path else None, **project).plan()
    return [(item.mode, item.want) for wave in waves for item in wave]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], []),
        (["new running"], []),
        (["old running"], [("start_first", 1)]),
        (["old running", "old running"], [("start_first", 2)]),
        (["old restarting"], [("start_first", 1)]),
        # Stopped by its owner: made anew, once.
        (["old exited"], [("stopped", 0)]),
        (["old created"], [("stopped", 0)]),
        (["new exited"], []),
        (["new created"], []),
        # A stopped one among those that run goes with the others.
        (["old running", "old exited"], [("start_first", 1)]),
        # Killed after create, after start, after the first stop, after all stops.
        (["old running", "old running", "new created", "new created"], [("start_first", 2)]),
        (["old running", "old running", "new running", "new created"], [("start_first", 2)]),
        (["old exited", "old running", "new running", "new running"], [("start_first", 2)]),
        (["old exited", "new running"], [("start_first", 1)]),
        (["new running", "new created"], [("start_first", 1)]),
        # Killed after start, and the value is another one since.
        (["old running", "older running"], [("start_first", 1)]),
        (["old running", "old running", "older running", "older created"], [("start_first", 2)]),
    ],
)
def test_as_many_as_ran_shall_run(states, expected):
    assert plan(*states) == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["old exited"], [("stop_first", 1)]),
        (["old exited", "new created 0 0123456789ab_fixed"], [("stop_first", 1)]),
        (["new created 0 0123456789ab_fixed"], [("stop_first", 1)]),
        (["new created"], [("stop_first", 1)]),
        (["new exited 1"], [("stop_first", 1)]),
        ([], [("stop_first", 1)]),
        (["new running"], []),
    ],
)
def test_what_we_have_stopped_ourselves_shall_run_again(states, expected, tmp_path):
    assert plan(*states, wanted=1, tmp_path=tmp_path, mode="stop_first") == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], []),
        (["new exited 0"], []),
        (["old exited 0"], [("job", 1)]),
        (["old exited 3"], [("job", 1)]),
        (["new exited 3"], [("job", 1)]),
        (["new created"], [("job", 1)]),
        (["new running"], [("job", 1)]),
    ],
)
def test_a_job_runs_once_with_the_new_value(states, expected):
    assert plan(*states, service="job") == expected


def test_a_job_whose_container_is_gone_on_the_way_runs(tmp_path):
    assert plan(service="job", wanted=1, tmp_path=tmp_path) == [("job", 1)]


@pytest.mark.parametrize(
    ("containers", "options", "project", "said"),
    [
        ([container("job", "old", "exited")], {"job": {}}, {}, "rerun: safe"),
        ([container("job", "old", "running")], {"job": {"rerun": "safe"}}, {}, "is running now"),
        ([container("a", "old")], {}, {"evidence": "none"}, "neither health check nor log pattern"),
        ([container("a", "old", "paused")], {}, {}, "is paused"),
        ([container("a", "old")], {}, {"inside": "b"}, "b runs inside a's network.*skip_service=a"),
        (
            [container("a", "old")],
            {"a": {"replace": "start_first"}},
            {"mode": "stop_first"},
            "secrets_services.a.replace: start_first is not possible: fixed container_name",
        ),
    ],
)
def test_refused_before_anything_is_touched(containers, options, project, said):
    with pytest.raises(SecretsError, match=said):
        rollout(*containers, options=options, **project).plan()


def test_an_unknown_service_is_refused():
    with pytest.raises(SecretsError, match="b: no such service in /srv/demo; there are a, job"):
        Rollout(FakeProject(), Settings(["b"]), Masker())


def test_weak_evidence_can_be_accepted_and_nothing_else():
    found = FakeProject(container("a", "old"), evidence="none")
    assert len(Rollout(found, Settings(["a"], accept_weak=True), Masker()).plan()) == 1
    found.joined = "b"
    with pytest.raises(SecretsError, match="b runs inside a"):
        Rollout(found, Settings(["a"], accept_weak=True), Masker()).plan()


def test_what_does_not_run_is_named():
    found = rollout(container("a", "new", "exited"))
    assert (found.plan(), found.not_running) == ([], ["job", "a"])


def test_the_journal_outlives_its_process(tmp_path):
    folder = tmp_path / "state"
    assert Journal(str(folder)).wanted == {}
    assert not folder.exists()
    Journal(str(folder)).add({"a": 2, "b": 1})
    journal = Journal(str(folder))
    journal.drop(["a"])
    assert Journal(str(folder)).wanted == journal.wanted == {"b": 1}
    assert (folder / "rollout.json").stat().st_mode & 0o777 == 0o600
    (folder / "rollout.json").write_text("[1")
    with pytest.raises(SecretsError, match=r"rollout\.json: is damaged"):
        Journal(str(folder))


def test_a_settings_timeout_can_be_a_services_own():
    settings = Settings(["a"], {"a": ServiceOptions(timeout=5)}, timeout=60)
    assert (settings.timeout_of("a"), settings.timeout_of("b")) == (5, 60)


class RecordingDocker(DockerCli):
    """Removes what it is told to, unless it is broken."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.removed, self.broken = [], broken

    def run(self, *arguments, **_options):
        if arguments[0] == "rm":
            if self.broken:
                raise SecretsError("docker rm failed: no answer")
            self.removed += [one for one in arguments[1:] if not one.startswith("-")]
        return Completed(0, "", "")


def ended_by(error: Exception, broken: bool = False, log_dir=None, log="said") -> tuple[SecretsError, list[str]]:
    """Return what a roll-out of ``a`` that an error ends says, and what it removes; ``log``: what saving does."""
    old, new = container("a", "old"), container("a", "new")
    found = FakeProject(old, new)
    found.docker = RecordingDocker(broken)
    rolling = Rollout(found, Settings(["a"], log_dir=log_dir), Masker(["hunter2-hunter2"]))
    rolling._save_log = lambda _failure: log if isinstance(log, str) else log()
    batch = [Replacement("a", "start_first", "", "health check", 1, [old], [new], began=time.monotonic())]
    with pytest.raises(SecretsError) as caught, rolling._saving_logs(batch):
        raise error
    return caught.value, found.docker.removed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Failure("a", container("a", "new"), "ended with hunter2-hunter2"), "a failed: ended with ******** (0 s)"),
        (SecretsError("docker create failed: disk full"), "docker create failed: disk full"),
        (ValueError("bad hunter2-hunter2\nin two lines"), "the roll-out broke: ValueError: bad ********"),
        (KeyError(), "the roll-out broke: KeyError: no reason"),
        (OSError(28, "No space left on device"), "the roll-out broke: OSError: [Errno 28] No space left on device"),
    ],
)
def test_the_new_containers_go_whatever_ends_a_roll_out(error, said):
    caught, removed = ended_by(error)
    assert removed == ["new"]
    assert re.sub(r"\(\d+ s\)$", "(0 s)", caught.message) == said


def test_the_first_reason_is_told_before_what_failed_after_it():
    def full():
        raise OSError(28, "No space left on device")

    caught, removed = ended_by(Failure("a", container("a", "new"), "its health check fails"), log=full)
    assert removed == ["new"]
    assert caught.message.startswith("a failed: its health check fails (")
    assert caught.message.endswith("; its log could not be saved: OSError: [Errno 28] No space left on device")
    assert (caught.details["reason"], caught.details["log"]) == ("its health check fails", "")
    caught, removed = ended_by(ValueError("x"), broken=True)
    assert caught.message == "the roll-out broke: ValueError: x; new containers are left: docker rm failed: no answer"


def test_a_line_of_progress_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / "file").touch()
    rolling = Rollout(FakeProject(), Settings(["a"], progress=str(tmp_path / "file" / "x")), Masker())
    item = Replacement("a", "start_first", "", "health check", 1, [], [])
    rolling._progress(item, "a 1/1 healthy")
    assert item.seconds > 0
