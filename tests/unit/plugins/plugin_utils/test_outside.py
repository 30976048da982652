# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import env_lines
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.fingerprints import fingerprint
from ansible_collections.chat4all.secrets.plugins.modules import env_file
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.outside import Outside

KEY = bytes(32)
OLD, NEW = {"user": "app_1", "password": "old-value"}, {"user": "app_2", "password": "new-value"}
ENTRY = {"current": OLD, "pending": NEW}


class World:
    """A rotation on a deployment whose modules work on real files, and whose commands are only noted."""

    def __init__(self, folder, names=("job",), **arguments):
        self.ran, self.record, self.fails = [], {}, False
        self.files = [
            {
                "name": name,
                "path": str(folder / f"{name}.env"),
                "host": "",
                "variables": {"user": "U", "password": "P"},
                "after": ["restart", name],
                "timeout": 60,
            }
            for name in names
        ]
        for one in self.files:
            (folder / f"{one['name']}.env").write_text("# kept\nU=app_1\nP=old-value\n")
        store = SimpleNamespace(fingerprint=lambda value: fingerprint(KEY, value), fingerprint_key=KEY)
        host = SimpleNamespace(
            name="db1",
            state_dir=str(folder),
            module=self.module,
            would=lambda name, **given: self.module(name, check_mode=True, **given),
        )
        self.deployment = SimpleNamespace(
            host="db1",
            hosts=[host],
            store=store,
            slot_values=Deployment.slot_values,
            state=lambda _action, **_given: {"record": self.record},
            line=lambda *_text, **_host: None,
            kept=lambda _holder: contextlib.nullcontext(),
        )
        self.deployment.named = lambda name: Deployment.named(self.deployment, name)
        rotation = SimpleNamespace(
            name="app",
            id="r-1",
            deployment=self.deployment,
            arguments=arguments,
            holder=None,
            entry=lambda: ENTRY,
            records=lambda *steps, **_more: [],
            note=lambda _ledger, **record: self.record.update(record),
        )
        self.outside = Outside(rotation, {"files": self.files, "variables": {}, "host": "db1"})

    def module(self, name, check_mode=False, **given):
        if name == "env_file":
            defaults = {"example": False, "gitignore": False, "owner": None, "group": None, "ledger": []}
            # The lock is another module's business.
            return env_file.work({**defaults, **given, "state_dir": None, "holder": None}, check_mode)
        if self.fails:
            raise SecretsError(f"{given['consumer']} failed")
        assert OLD["password"] in given["mask"] and NEW["password"] in given["mask"]
        self.ran.append(given["command"][1])
        return {"seconds": 0.1}

    def passwords(self):
        texts = [Path(one["path"]).read_text() for one in self.files]
        return [line.value for text in texts for line in env_lines.parse(text, ["P"])]


def test_all_files_are_tried_before_the_first_is_written(tmp_path):
    world = World(tmp_path, ["a", "b"])
    (tmp_path / "b.env").write_text("U=app_1\n")
    with pytest.raises(SecretsError, match=r"^b: .*b.env: has no P"):
        world.outside.publish([NEW, OLD], trial=True)
    assert world.passwords() == ["old-value"]


def test_a_command_runs_once_for_a_value_and_again_on_the_way_back(tmp_path):
    world = World(tmp_path, ["a", "b"])
    world.record = {"outside": True}
    assert world.outside.publish([NEW, OLD]) == [{"changed": True}] * 2
    assert world.outside.publish([NEW, OLD]) == [{"changed": False}] * 2
    world.outside.run("roll_out", NEW)
    world.outside.run("roll_out", NEW)  # a rerun
    assert world.ran == ["a", "b"] and world.passwords() == ["new-value"] * 2
    world.outside.publish([OLD, NEW])
    world.outside.run("back", OLD)
    assert world.ran == ["a", "b", "a", "b"] and world.passwords() == ["old-value"] * 2


def test_what_was_never_published_needs_no_command_on_the_way_back(tmp_path):
    world = World(tmp_path)
    world.outside.run("back", OLD)
    assert world.ran == []


def test_a_command_that_failed_runs_again_and_on_the_way_back_too(tmp_path):
    world = World(tmp_path)
    world.record, world.fails = {"outside": True}, True
    with pytest.raises(SecretsError, match="job failed"):
        world.outside.run("roll_out", NEW)
    world.fails = False
    world.outside.run("back", OLD)
    assert world.ran == ["job"]


def test_what_is_skipped_keeps_what_it_has_and_is_stale_at_the_end(tmp_path):
    world = World(tmp_path, ["a", "b"], skip_services=["a"])
    world.record = {"outside": True}
    world.outside.publish([NEW, OLD])
    world.outside.run("roll_out", NEW)
    assert world.passwords() == ["old-value", "new-value"] and world.ran == ["b"]
    assert world.outside.stale({"current": NEW}) == ["a"]


def test_a_foreign_value_is_drift_that_names_the_file(tmp_path):
    world = World(tmp_path)
    world.outside.check(ENTRY)
    path = tmp_path / "job.env"
    path.write_text("U=app_2\nP=new-value\n")
    world.outside.check(ENTRY)
    path.write_text("U=app_2\nP=by-hand\n")
    with pytest.raises(SecretsError, match=r"^DRIFT app: \S+/job.env \(job\) holds another P than the store; copy"):
        world.outside.check(ENTRY)
    with pytest.raises(SecretsError, match="^DRIFT"):
        world.outside.publish([NEW, OLD])
    assert "by-hand" in path.read_text()
    World(tmp_path, [], drift="replace")
    replacing = World(tmp_path, drift="replace")
    path.write_text("U=app_2\nP=by-hand\n")
    replacing.outside.check(ENTRY)
    assert replacing.outside.stale(ENTRY) == ["job"]


def test_a_host_that_is_not_there_is_refused(tmp_path):
    world = World(tmp_path)
    world.files[0]["host"] = "app2"
    with pytest.raises(SecretsError, match="consumers: job: app2: no host of this play; there are db1"):
        world.outside.check(ENTRY)
    world.files[0]["host"] = "db1"
    world.outside.check(ENTRY)
