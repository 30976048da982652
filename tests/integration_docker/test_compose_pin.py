# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The override that keeps a server's first-start values apart is one that the real Compose reads, or there is none."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import DEFAULT_FILES, OVERRIDE_FILES
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.modules import compose_pin
from sandbox import Sandbox, service

PIN = {"PW": "INIT_PW"}


class Box(Sandbox):
    def pin(self, check: bool = False, **given):
        params = {
            "project_dir": str(self.folder),
            "compose_files": [],
            "env_file": None,
            "project_name": None,
            "service": "db",
            "variables": PIN,
            "state_dir": None,
            "holder": None,
            "ledger": [],
        }
        return compose_pin.pin({**params, **given}, check)

    def value(self, variable: str = "PW") -> str:
        """Return what a plain ``docker compose`` gives the server."""
        said = self.compose("config", "--format", "json")
        return json.loads(said[said.index("{") : said.rindex("}") + 1])["services"]["db"]["environment"][variable]

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def box(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    sandbox = Box(folder, "compose-pin")
    sandbox.write({"db": service(), "app": service()})
    sandbox.set("first")
    with (folder / ".env").open("a") as env:
        env.write("INIT_PW=init\n")
    yield sandbox
    sandbox.remove()


def test_the_files_are_tried_in_the_order_of_the_real_compose(box):
    for names, variable in ((DEFAULT_FILES, "BASE"), (OVERRIDE_FILES, "OVERRIDE")):
        for name in names:
            config = {"image": "x", "environment": {variable: name}}
            (box.folder / name).write_text(json.dumps({"services": {"db": config}}))
    overrides = list(OVERRIDE_FILES)
    for base in DEFAULT_FILES:
        assert box.value("BASE") == base
        if overrides:
            assert box.value("OVERRIDE") == overrides[0]
            (box.folder / overrides.pop(0)).unlink()
        (box.folder / base).unlink()


@pytest.mark.parametrize("there", [(), OVERRIDE_FILES[1:], OVERRIDE_FILES[2:], OVERRIDE_FILES])
def test_what_is_written_is_what_compose_reads(box, there):
    for name in there:
        (box.folder / name).write_text(f"# kept\nservices: {{app: {{labels: {{from: {name}}}}}}}\n")
    before = {name: (box.folder / name).read_text() for name in box.names()}
    assert box.pin(check=True)["changed"]
    assert {name: (box.folder / name).read_text() for name in box.names()} == before
    result = box.pin()
    assert result == {"changed": True, "path": str(box.folder / (there[0] if there else "docker-compose.override.yml"))}
    after = {name: (box.folder / name).read_text() for name in box.names()}
    [written] = [name for name, text in after.items() if before.get(name) != text]
    assert result["path"].endswith(f"/{written}")
    assert ("# kept" in after[written]) == bool(there)
    assert box.value() == "init"
    assert box.pin() == {**result, "changed": False}


@pytest.mark.parametrize("base", DEFAULT_FILES)
def test_a_new_override_is_named_as_the_file_beside_it(box, base):
    (box.folder / "docker-compose.yml").rename(box.folder / base)
    kind = base.partition(".")[0]
    assert box.pin()["path"] == str(box.folder / f"{kind}.override.yml")
    assert box.value() == "init"


def test_an_override_keeps_its_mode(box):
    override = box.folder / "docker-compose.override.yml"
    override.write_text("services: {app: {labels: {x: y}}}\n")
    override.chmod(0o600)
    box.pin()
    assert override.stat().st_mode & 0o777 == 0o600


def named_by_option(box):
    return {"compose_files": ["docker-compose.yml"]}


def named_in_env_file(box):
    with (box.folder / ".env").open("a") as env:
        env.write("COMPOSE_FILE=docker-compose.yml\n")
    return {}


def named_at_the_start(box):
    (box.folder / "extra.yml").write_text("services: {app: {labels: {x: y}}}\n")
    box.compose("-f", "docker-compose.yml", "-f", "extra.yml", "create", "app")
    return {}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("how", [named_by_option, named_in_env_file, named_at_the_start])
def test_an_override_that_would_not_be_read_is_refused_and_not_written(box, how, check):
    given = how(box)
    before = box.names()
    with pytest.raises(
        SecretsError, match=r"^db: .* would not be read .*docker-compose\.yml.*write \$\{INIT_PW\}"
    ) as error:
        box.pin(check, **given)
    assert "\n" not in error.value.message
    assert box.names() == before


def test_an_override_that_is_among_the_named_files_is_used(box):
    override = box.folder / "docker-compose.override.yml"
    override.write_text("services: {app: {labels: {x: y}}}\n")
    files = ["docker-compose.yml", override.name]
    assert box.pin(compose_files=files) == {"changed": True, "path": str(override)}
    assert yaml.safe_load(override.read_text())["services"]["db"]["environment"] == {"PW": "${INIT_PW}"}
    assert box.pin(compose_files=files)["changed"] is False


@pytest.mark.parametrize("check", [True, False])
def test_what_an_override_cannot_pin_is_refused_and_not_written(box, check):
    # Lists are appended to: the one of the file stays.
    box.write({"db": service(environment={}, labels={"a": "${PW}"}, volumes=["./${PW}:/x"]), "app": service()})
    before = box.names()
    with pytest.raises(SecretsError, match=r"^db: would still depend on PW with .*write \$\{INIT_PW\}"):
        box.pin(check)
    assert box.names() == before


def test_check_mode_knows_before_the_new_variables_are_there(box):
    box.set("first")
    box.write({"db": service(environment={"PW": "${PW:?needed}"}), "app": service()})
    before = box.names()
    assert box.pin(check=True)["changed"]
    assert box.names() == before


def test_a_service_that_does_not_exist_is_refused(box):
    with pytest.raises(SecretsError, match="^database: no such service in .*; there are app, db"):
        box.pin(service="database")
