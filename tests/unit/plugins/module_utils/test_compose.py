# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from itertools import pairwise
from typing import Any

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container, Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import Completed, DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

VALUE = "hunter2-hunter2"
WELL = Completed(0, "", "")


class FakeDocker(DockerCli):
    """Answers for a project; ``model(environment)`` is its resolved configuration."""

    def __init__(self, model, containers=(), listed="", failure="", dry_run=WELL, images=None):
        super().__init__()
        self.model, self.inspected, self.listed, self.failure = model, list(containers), listed, failure
        self.dry_run, self.images, self.calls = dry_run, images or {}, []

    def run(self, *arguments: str, **options: Any) -> Completed:
        self.calls.append(arguments)
        if arguments[0] == "ps" and "--quiet" in arguments:
            return Completed(0, "\n".join(data["Id"] for data in self.inspected), "")
        if arguments[0] == "ps":
            return Completed(0, self.listed, "")
        if arguments[0] == "inspect":
            return Completed(0, json.dumps([data for data in self.inspected if data["Id"] in arguments]), "")
        if arguments[:2] == ("image", "inspect"):
            known = self.images.get(arguments[2])
            return Completed(0, json.dumps([known]), "") if known else Completed(1, "[]", "Error: No such image")
        if "create" in arguments:
            return self.dry_run
        if self.failure:
            return Completed(1, "", self.failure)
        if "--hash" in arguments:
            services = json.loads(options["stdin"])["services"]
            return Completed(0, "\n".join(f"{name} hash-{name}" for name in services), "")
        return Completed(0, json.dumps(self.model(options.get("environment") or {})), "")


def model(services: dict[str, Any], **more: Any):
    return lambda _environment: {"name": "demo", "services": services, **more}


def inspected(service: str, number: int = 1, **state: Any) -> dict[str, Any]:
    """Return what ``docker inspect`` says of a container."""
    labels = {"service": service, "container-number": str(number), "config-hash": state.pop("hash", f"hash-{service}")}
    return {
        "Id": f"{service}{number}",
        "Name": f"/demo-{service}-{number}",
        "Created": "2026-11-24T04:01:33.123456789Z",
        "Image": state.pop("image", "sha256:1"),
        "RestartCount": 2,
        "Config": {
            "Image": "app:1",
            "Env": ["PW=a=b", "EMPTY="],
            "StopTimeout": state.pop("grace", None),
            "Labels": {f"com.docker.compose.{key}": value for key, value in labels.items()},
        },
        "State": {"Running": True, "Status": "running", **state},
        "NetworkSettings": {"Networks": {"demo_default": {"IPAddress": "172.18.0.5"}}},
        "Mounts": [{"Type": "volume", "Name": state.pop("volume", "demo_data")}],
    }


def project(tmp_path, docker: FakeDocker, env: str = "") -> Project:
    (tmp_path / ".env").write_text(env)
    (tmp_path / "compose.yml").touch()
    return Project.load(docker, str(tmp_path))


def test_a_container_is_read_from_inspect():
    container = Container.from_inspect(inspected("a", 2, Health={"Status": "healthy"}, grace=30, volume="f" * 64))
    assert (container.name, container.service, container.number, container.health) == ("demo-a-2", "a", 2, "healthy")
    assert (container.env, container.addresses) == ({"PW": "a=b", "EMPTY": ""}, {"demo_default": "172.18.0.5"})
    assert (container.stop_grace, container.restarts) == (30, 2)
    assert container.created == pytest.approx(1795492893.123456)
    assert not Container.from_inspect(inspected("a")).anonymous_volumes
    assert Container.from_inspect(inspected("a")).stop_grace == 10


def test_neither_a_container_nor_a_service_shows_its_values(tmp_path):
    found = project(tmp_path, FakeDocker(model({"a": {"environment": {"PW": VALUE}}})))
    assert VALUE not in repr(found.services) and "a=b" not in repr(Container.from_inspect(inspected("a")))


def test_waves_leave_out_what_stays_but_keep_its_order(tmp_path):
    needs = {"a": {}, "b": {"a": {}}, "c": {"b": {"condition": "service_completed_successfully"}}, "d": {"gone": {}}}
    found = project(tmp_path, FakeDocker(model({name: {"depends_on": needed} for name, needed in needs.items()})))
    assert found.waves("abcd") == [["a", "d"], ["b"], ["c"]]
    assert found.waves("cad") == [["a", "d"], ["c"]]
    assert found.waves([]) == []
    assert {name for name, one in found.services.items() if one.is_job} == {"b"}
    assert found.needed_by("c") == {"a", "b", "c"}


def test_a_shared_network_is_a_dependency(tmp_path):
    found = project(tmp_path, FakeDocker(model({"vpn": {}, "app": {"network_mode": "service:vpn"}})))
    assert found.waves(["vpn", "app"]) == [["vpn"], ["app"]]
    assert (found.inside("vpn"), found.inside("app")) == ("app", "")
    assert found.replace_mode("vpn") == ("stop_first", "app runs inside it")


def test_consumers_by_a_marker_by_a_whole_file_and_by_mounted_secrets(tmp_path):
    def config(environment):
        value = environment.get("PW", VALUE)
        services = {
            "user": {"command": ["run", value]},
            "whole": {"env_file": [{"path": str(tmp_path / ".env")}]},
            "own": {"env_file": [{"path": str(tmp_path / ".env")}], "environment": {"PW": "typed"}},
            "secret": {"secrets": [{"source": "s"}]},
            "config": {"configs": [{"source": "c"}]},
            "file": {"secrets": [{"source": "f"}]},
            "none": {},
        }
        return {
            "name": "demo",
            "services": services,
            "secrets": {"s": {"environment": "PW"}, "f": {"file": "/x"}},
            "configs": {"c": {"content": value}},
        }

    found = project(tmp_path, FakeDocker(config)).consumers(["PW", "OTHER"])
    assert found == {"PW": {"user", "whole", "secret", "config"}, "OTHER": {"whole", "own"}}


def test_stale_is_another_hash_or_an_older_secret(tmp_path):
    services = {"a": {}, "b": {}, "s": {"secrets": [{"source": "x"}]}}
    containers = [inspected("a"), inspected("b", hash="old"), inspected("s")]
    found = project(tmp_path, FakeDocker(model(services, secrets={"x": {"environment": "PW"}}), containers))
    # Made in 2026, before this file.
    os.utime(tmp_path / ".env", (4e9, 4e9))
    assert found.stale(found.containers()) == {"b1", "s1"}
    os.utime(tmp_path / ".env", (1e9, 1e9))
    assert found.stale(found.containers()) == {"b1"}


def dry_run(*rows: str, code: int = 0) -> Completed:
    return Completed(code, "", "\n".join(f" DRY-RUN MODE -  Container {row}" for row in rows))


def test_pending_changes_name_causes_only(tmp_path):
    services = {"a": {}, "b": {"depends_on": {"a": {}}}, "c": {}, "never": {}}
    containers = [inspected("a", hash="old"), inspected("b"), inspected("c")]
    rows = (
        "demo-a-1  Recreate",
        "demo-a-1  Recreated",
        "demo-b-1  Recreate",
        "demo-c-1  Running",
        "demo-c-2  Creating",
        "demo-never-1  Creating",
    )
    docker = FakeDocker(model(services), containers, dry_run=dry_run(*rows), images={"app:1": {"Id": "sha256:1"}})
    assert project(tmp_path, docker).pending_changes() == [("a", "recreate"), ("c", "create")]


def test_pending_changes_where_the_dry_run_stumbles_over_a_secret(tmp_path):
    containers = [inspected("a", hash="old"), inspected("b"), inspected("c", image="sha256:0")]
    failed = Completed(14, "", "DRY-RUN MODE - Could not find the file / in container 123_demo-a-1")
    docker = FakeDocker(
        model({"a": {}, "b": {}, "c": {}}), containers, dry_run=failed, images={"app:1": {"Id": "sha256:1"}}
    )
    assert project(tmp_path, docker).pending_changes() == [("a", "recreate"), ("c", "recreate")]
    docker.dry_run = Completed(1, "", "no space left")
    with pytest.raises(SecretsError, match="no space left"):
        project(tmp_path, docker).pending_changes()


def test_evidence_of_the_service_or_of_its_image(tmp_path):
    services = {
        "own": {"healthcheck": {"test": ["CMD", "true"]}},
        "image": {"image": "with-check"},
        "both": {"image": "with-check", "healthcheck": {"interval": "5s"}},
        "off": {"image": "with-check", "healthcheck": {"disable": True}},
        "none": {"healthcheck": {"test": ["NONE"]}},
        "nothing": {"image": "gone"},
    }
    images = {"with-check": {"Id": "1", "Config": {"Healthcheck": {"Test": ["CMD", "true"]}}}}
    found = project(tmp_path, FakeDocker(model(services), images=images))
    weak = [name for name in services if found.evidence(name) == "none"]
    assert weak == ["off", "none", "nothing"]


def test_a_volume_of_the_image_is_an_anonymous_one(tmp_path):
    services = {
        "plain": {"image": "redis"},
        "mounted": {
            "image": "redis",
            "volumes": [{"type": "volume", "source": "v", "target": "/data", "read_only": True}],
        },
        "memory": {"image": "redis", "tmpfs": ["/data:size=1m"]},
    }
    images = {"redis": {"Id": "1", "Config": {"Volumes": {"/data": {}}}}}
    found = project(tmp_path, FakeDocker(model(services), images=images))
    assert found.replace_mode("plain") == ("stop_first", "anonymous volume /data (of the image)")
    assert found.replace_mode("mounted")[0] == found.replace_mode("memory")[0] == "start_first"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            f"invalid interpolation format for services.a.environment.X.\nescape it.\n{VALUE}${{",
            "services.a.environment.X",
        ),
        (f'failed to read /x/.env: line 3: unexpected character "{VALUE}"', "cannot read"),
        (f"yaml: cannot unmarshal !!str `{VALUE[:7]}...` into bool", "cannot unmarshal"),
        (f'1 error: invalid containerPort: "{VALUE}"', "invalid containerPort"),
        ("unknown flag: --project-directory\nSee 'docker --help'.", "Compose v2 is not installed"),
    ],
)
def test_what_compose_says_is_shown_without_what_it_quotes(tmp_path, said, shown):
    with pytest.raises(SecretsError, match=shown) as error:
        project(tmp_path, FakeDocker(model({}), failure=said), env=f"ANY={VALUE}\n")
    assert "hunter2" not in str(error.value) and "\n" not in str(error.value)


def labels(*values: str) -> str:
    return json.dumps(values)


def test_the_project_is_found_by_its_containers_labels(tmp_path):
    (tmp_path / "other.yml").touch()
    (tmp_path / "live.env").touch()
    rows = labels("live", str(tmp_path), str(tmp_path / "other.yml"), str(tmp_path / "live.env"))
    docker = FakeDocker(model({}), listed=rows + "\n" + labels("away", "/elsewhere", "/elsewhere/x.yml", ""))
    found = project(tmp_path, docker)
    assert found.files == [str(tmp_path / "other.yml")]
    assert found.env_file == str(tmp_path / "live.env")
    assert ("--project-name", "live") in pairwise(docker.calls[-1])


def test_the_usual_files_are_left_to_compose(tmp_path):
    rows = labels("live", str(tmp_path), str(tmp_path / "compose.yml"), "")
    docker = FakeDocker(model({}), listed=rows)
    found = project(tmp_path, docker)
    (tmp_path / "compose.override.yml").touch()
    assert not [flag for flag in docker.calls[-1] if flag.startswith("--file")]
    assert found.files == [str(tmp_path / "compose.yml"), str(tmp_path / "compose.override.yml")]


def test_no_folder_no_file_and_two_projects_are_refused(tmp_path):
    docker = FakeDocker(model({}))
    with pytest.raises(SecretsError, match="no such folder"):
        Project.load(docker, str(tmp_path / "nowhere"))
    with pytest.raises(SecretsError, match="no Compose file there"):
        Project.load(docker, str(tmp_path))
    with pytest.raises(SecretsError, match="no such Compose file"):
        Project.load(docker, str(tmp_path), files=["other.yml"])
    two = FakeDocker(model({}), listed="\n".join(labels(name, str(tmp_path), "/x.yml", "") for name in ("b", "a")))
    with pytest.raises(SecretsError, match=r"several projects .*\(a, b\).*project_name"):
        project(tmp_path, two)


@pytest.mark.parametrize(("given", "used"), [("live.env", "live.env"), ("/elsewhere/x.env", "/elsewhere/x.env")])
def test_a_relative_env_file_is_one_in_the_projects_folder(tmp_path, given, used):
    (tmp_path / "compose.yml").touch()
    (tmp_path / "live.env").touch()
    (tmp_path / "label.env").touch()
    docker = FakeDocker(model({}), listed=labels("live", str(tmp_path), str(tmp_path / "compose.yml"), "label.env"))
    assert Project.load(docker, str(tmp_path), env_file=given).env_file == str(tmp_path / used)
    assert Project.load(docker, str(tmp_path)).env_file == str(tmp_path / "label.env")
    assert ("--env-file", str(tmp_path / "label.env")) in pairwise(docker.calls[-1])


def test_an_env_file_that_is_still_to_be_written_is_an_empty_one(tmp_path):
    (tmp_path / "compose.yml").touch()
    docker = FakeDocker(model({}))
    assert Project.load(docker, str(tmp_path), env_file="new.env").env_file == str(tmp_path / "new.env")
    assert ("--env-file", "/dev/null") in pairwise(docker.calls[-1])


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("gone.env", r"gone\.env: no such file, but the running containers were started with --env-file gone\.env; "),
        ("a.env,b.env", r"was started with several env files \(a\.env,b\.env\)"),
    ],
)
def test_an_env_file_that_the_containers_name_in_vain_is_refused(tmp_path, label, said):
    (tmp_path / "compose.yml").touch()
    docker = FakeDocker(model({}), listed=labels("live", str(tmp_path), str(tmp_path / "compose.yml"), label))
    with pytest.raises(SecretsError, match=said):
        Project.load(docker, str(tmp_path))
    (tmp_path / "other.env").touch()
    assert Project.load(docker, str(tmp_path), env_file="other.env").env_file == str(tmp_path / "other.env")


def test_create_keeps_the_number_of_what_is_needed(tmp_path):
    services = {"db": {}, "a": {"depends_on": {"db": {}}}, "alone": {}}
    docker = FakeDocker(model(services), [inspected("db"), inspected("db", 2), inspected("a"), inspected("alone")])
    project(tmp_path, docker).create(["a"], {"a": 2}, "--no-recreate")
    assert docker.calls[-1][-5:] == ("--no-recreate", "--scale=a=2", "--scale=db=2", "--", "a")
