# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection believes of Compose is what the real one does."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from sandbox import IMAGE, Sandbox, service


@pytest.fixture
def box(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    sandbox = Sandbox(folder, "compose")
    sandbox.set("first-value")
    yield sandbox
    sandbox.remove()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A project that runs and whose value has changed since. The tests that use it only look."""
    folder = tmp_path_factory.mktemp("running")
    sandbox = Sandbox(folder, "compose-running")
    sandbox.set("first-value")
    plain = {"environment": {}}
    sandbox.write(
        {
            "db": service(**plain),
            "migrate": service("exit 0", depends_on={"db": {"condition": "service_healthy"}}),
            "a": service(depends_on={"migrate": {"condition": "service_completed_successfully"}}),
            "between": service(**plain, depends_on=["a"]),
            "b": service(depends_on=["between"]),
            "whole-file": service(**plain, env_file=[".env"]),
            "own-value": service(environment={"PW": "typed"}, env_file=[".env"]),
            "secret": service(**plain, secrets=["pw"]),
            "config": service(**plain, configs=[{"source": "pw", "target": "/pw"}]),
            "hidden": service(profiles=["extra"]),
            "never": service(profiles=["extra"]),
            "labelled": service(**plain, labels={"value": "${PW}"}),
        },
        secrets={"pw": {"environment": "PW"}},
        configs={"pw": {"content": "pw=${PW}"}},
    )
    try:
        sandbox.up("--scale", "db=2")
        sandbox.compose("--profile", "extra", "up", "--detach", "hidden")
        sandbox.set("second-value")
        yield sandbox
    finally:
        sandbox.remove()


def test_a_consumer_is_who_changes_with_the_variable(running):
    found = running.project().consumers(["PW", "NOBODY"])
    assert found["PW"] == {"migrate", "a", "b", "whole-file", "secret", "config", "hidden", "never", "labelled"}
    # What takes the whole file gets every variable of it.
    assert found["NOBODY"] == {"whole-file", "own-value"}


def test_waves_follow_depends_on_through_services_that_stay(running):
    project = running.project()
    assert project.waves(["b", "a", "migrate", "hidden"]) == [["hidden", "migrate"], ["a"], ["b"]]
    assert project.services["migrate"].is_job and not project.services["a"].is_job


def test_stale_is_what_was_made_before_the_value_changed(running):
    project = running.project()
    containers = project.containers()
    stale = project.stale(containers)
    assert {one.service for one in containers if one.id in stale} == project.consumers(["PW"])["PW"] - {"never"}


def test_pending_changes_are_those_of_a_plain_up(running):
    changes = running.project().pending_changes()
    by_hash = {"migrate", "a", "b", "whole-file", "hidden", "labelled"}
    assert {name for name, what in changes if what == "recreate"} == by_hash
    # A service of a profile that is not in use is no change.
    assert "never" not in dict(changes)


def test_containers_leave_out_those_of_compose_run(running):
    before = {one.id for one in running.containers()}
    running.compose("run", "--detach", "--no-deps", "--name", "test-compose-oneoff", "db")
    try:
        assert {one.id for one in running.containers()} == before
    finally:
        running.docker("rm", "--force", "test-compose-oneoff")


def test_an_environment_of_the_shell_changes_nothing(running, monkeypatch):
    monkeypatch.setenv("PW", "from-the-shell")
    monkeypatch.setenv("COMPOSE_FILE", "/nowhere.yml")
    assert running.project().services["a"].config["environment"]["PW"] == "second-value"


def test_hashes_are_those_of_new_containers(box):
    box.write({"a": service()})
    box.up()
    box.set("second-value")
    project = box.project()
    project.create(["a"], {"a": 2}, "--no-recreate")
    made = [one for one in project.containers() if one.status == "created"]
    assert [one.config_hash for one in made] == [project.hashes()["a"]]
    assert project.stale(project.containers()) == {one.id for one in project.containers() if one.running}


def test_hashes_are_those_of_containers_whatever_a_service_uses(box):
    (box.folder / "file").write_text("x")
    (box.folder / ".env").write_text(f"COMPOSE_PROJECT_NAME={box.name}\nPW=with$$dollar\nQ='with$dollar'\n")
    box.write(
        {
            "a": service(env_file=[".env"], environment={"PW": "${PW}", "A": "$$b", "UNSET": None}),
            "b": service(
                volumes=["./file:/x:ro", "data:/v"], ports=["80"], deploy={"replicas": 2}, stop_grace_period="1m30s"
            ),
            "c": service(
                tmpfs="/t", ulimits={"nofile": 1000}, configs=["c"], secrets=["s"], depends_on=["a"], profiles=["x"]
            ),
        },
        volumes={"data": {}},
        configs={"c": {"content": "x${PW}"}},
        secrets={"s": {"file": "./file"}},
    )
    box.compose("--profile", "x", "up", "--detach")
    project = box.project()
    assert {one.service: one.config_hash for one in project.containers()} == project.hashes()


def test_create_leaves_the_number_of_everything_else_as_it_is(box):
    box.write(
        {
            "db": service(environment={}),
            "gone": service(environment={}),
            "job": service("exit 0", environment={}),
            "a": service(
                depends_on={
                    "db": {"condition": "service_started"},
                    "gone": {"condition": "service_started"},
                    "job": {"condition": "service_completed_successfully"},
                }
            ),
        }
    )
    box.up("--scale", "db=3")
    box.compose("rm", "--stop", "--force", "gone")
    ended = [one.finished_at for one in box.containers("job")]
    box.project().create(["a"], {"a": 2}, "--no-recreate")
    services = [one.service for one in box.containers()]
    assert {name: services.count(name) for name in services} == {"db": 3, "job": 1, "a": 2}
    assert [one.finished_at for one in box.containers("job")] == ended


def test_files_are_those_that_the_containers_were_made_from(box):
    box.write({"a": service(environment={})})
    extra = box.folder / "extra.yml"
    extra.write_text(json.dumps({"services": {"a": {"labels": {"extra": "1"}}}}))
    box.compose("-f", "docker-compose.yml", "-f", "extra.yml", "up", "--detach")
    project = box.project()
    assert [os.path.basename(path) for path in project.files] == ["docker-compose.yml", "extra.yml"]
    assert project.stale(project.containers()) == set()


def test_an_override_that_came_later_counts(box):
    box.write({"a": service(environment={})})
    box.up()
    (box.folder / "docker-compose.override.yml").write_text(json.dumps({"services": {"a": {"labels": {"extra": "1"}}}}))
    project = box.project()
    assert [os.path.basename(path) for path in project.files] == ["docker-compose.yml", "docker-compose.override.yml"]
    assert [name for name, _what in project.pending_changes()] == ["a"]


def test_files_named_in_the_env_file_count(box):
    box.write({"a": service(environment={})})
    (box.folder / "docker-compose.yml").rename(box.folder / "stack.yml")
    with (box.folder / ".env").open("a") as env:
        env.write("COMPOSE_FILE=stack.yml\n")
    assert [os.path.basename(path) for path in box.project().files] == ["stack.yml"]


def test_another_env_file_is_found_in_the_labels(box):
    box.write({"a": service()})
    (box.folder / ".env").rename(box.folder / "production.env")
    box.compose("--env-file", "production.env", "up", "--detach")
    project = box.project()
    assert project.env_file == str(box.folder / "production.env")
    assert project.stale(project.containers()) == set()


def test_a_folder_reached_through_a_link_is_spelled_as_at_the_start(box, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(box.folder)
    (box.folder / "data").mkdir()
    box.write({"a": service(volumes=["./data:/data:ro"])})
    box.folder, real = link, box.folder
    try:
        box.up()
        box.folder = real
        project = box.project()
        assert project.directory == str(link)
        assert project.pending_changes() == []
    finally:
        box.folder = real
        box.remove()


def test_two_projects_of_one_folder_need_a_name(box):
    box.write({"a": service()})
    box.up()
    try:
        box.compose("-p", "test-compose-other", "up", "--detach")
        with pytest.raises(SecretsError, match="test-compose-other.*project_name"):
            box.project()
        assert box.project(name="test-compose-other").name == "test-compose-other"
    finally:
        box.compose("-p", "test-compose-other", "down", "--timeout", "0")


def drift(box):
    project = box.project()
    return project.image_drift(project.containers(["a", "b"]))


def test_a_moved_tag_is_image_drift(box):
    other = "chat4all-test/compose-drift:1"
    box.docker("tag", IMAGE, other)
    try:
        box.write({"a": service(image=other), "b": service()})
        box.up()
        assert drift(box) == []
        # Another image, made without a build: the same content, committed.
        box.docker("commit", box.containers("a")[0].id, other)
        [line] = drift(box)
        assert line.startswith(f"{box.name}-a-1 runs another image than {other}")
        box.docker("rmi", other)
        [line] = drift(box)
        assert "not here any more" in line
    finally:
        box.remove()
        box.docker("rmi", "--force", other, check=False)


@pytest.mark.parametrize(
    ("config", "mode", "reason"),
    [
        ({}, "start_first", ""),
        ({"container_name": "test-compose-fixed"}, "stop_first", "fixed container_name"),
        ({"ports": ["127.0.0.1:28080:80"]}, "stop_first", "host port 28080"),
        ({"ports": ["80"]}, "start_first", ""),
        ({"network_mode": "host"}, "stop_first", "network_mode host"),
        ({"network_mode": "service:other"}, "stop_first", "network_mode service"),
        ({"networks": {"n": {"ipv4_address": "10.251.7.9"}}}, "stop_first", "static address"),
        ({"volumes": ["data:/data"]}, "stop_first", "volume data has one writer"),
        ({"volumes": ["data:/data:ro"]}, "start_first", ""),
        ({"volumes": ["shared:/data"]}, "start_first", ""),
        ({"volumes": ["/data"]}, "stop_first", "anonymous volume"),
        ({"volumes": ["./folder:/data"]}, "stop_first", "folder folder has one writer"),
        ({"volumes": ["./file:/data"]}, "start_first", ""),
        ({"devices": ["/dev/null:/dev/x"]}, "stop_first", "devices"),
    ],
)
def test_start_first_only_where_two_can_run_beside_one_another(box, config, mode, reason):
    (box.folder / "folder").mkdir()
    (box.folder / "file").touch()
    box.write(
        {"a": service(**config), "other": service(volumes=["shared:/x"])},
        volumes={"data": {}, "shared": {}},
        networks={"n": {"ipam": {"config": [{"subnet": "10.251.7.0/24"}]}}},
    )
    assert box.project().replace_mode("a") == (mode, reason)


def test_what_is_declared_counts_where_it_is_possible(box):
    box.write(
        {
            "plain": service(),
            "data": service(volumes=["data:/data"]),
            "fixed": service(container_name="test-compose-fixed"),
            "host": service(),
            "guest": service(network_mode="service:host"),
        },
        volumes={"data": {}},
    )
    project = box.project()
    assert project.replace_mode("plain", "stop_first") == ("stop_first", "configured")
    assert project.replace_mode("data", "start_first") == ("start_first", "configured")
    assert project.replace_mode("fixed", "start_first") == ("stop_first", "fixed container_name")
    assert project.replace_mode("host", "start_first") == ("stop_first", "guest runs inside it")
    assert (project.inside("host"), project.inside("guest")) == ("guest", "")


def test_evidence_is_a_health_check_or_a_log_line(box):
    box.write({"a": service(), "b": service(healthcheck={"disable": True}), "c": {"image": IMAGE}})
    project = box.project()
    assert [project.evidence(name) for name in "abc"] == ["health check", "none", "none"]
    assert project.evidence("b", "Started") == 'log "Started"'


@pytest.mark.parametrize(
    ("compose", "env", "said"),
    [
        (None, "PW=x", "no Compose file there"),
        ("services: [", "PW=x", "docker compose config failed"),
        ("services: {a: {image: x, environment: {PW: 'hunter2-${'}}}", "PW=x", "write \\$\\$ for a literal"),
        ("services: {a: {image: x, environment: 'hunter2-hunter2'}}", "PW=x", "docker compose config failed"),
        ("services: {a: {image: x}}", "PW=x\nhunter2 is = a secret\n", r"\.env line 2"),
        ("services: {a: {image: x, ports: ['${PW}']}}", "PW=hunter2-hunter2", "docker compose config failed"),
        ("services: {a: {image: x, cpus: '${PW}'}}", "PW=hunter2-hunter2", "docker compose config failed"),
    ],
)
def test_a_bad_file_is_one_line_that_quotes_nothing(box, compose, env, said):
    if compose:
        (box.folder / "docker-compose.yml").write_text(compose)
    (box.folder / ".env").write_text(env)
    with pytest.raises(SecretsError, match=said) as error:
        box.project()
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_stopped_server_with_a_volume_has_data(box):
    box.write({"a": service(volumes=["data:/data"]), "b": service()}, volumes={"data": {}})
    assert not box.project().has_data("a")
    box.up("a")
    box.compose("rm", "--stop", "--force", "a")
    assert box.project().has_data("a") and not box.project().has_data("b")
