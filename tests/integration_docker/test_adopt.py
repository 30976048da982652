# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A deployment that was started by hand is adopted: nothing that runs changes, and it can be rotated then."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from outcome import check_settled, containers, published, stored
from plays import ROOT, Plays


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    """The playbooks for a stack that nobody has described: the inventory, in the user's repository, has no catalog."""
    plays = Plays(
        tmp_path_factory.mktemp("repository") / "inventories" / "production",
        stack.directory,
        rotate_rollout={"quiet": 0.3, "settle": 0.3},
        rotate_drain={"quiet": 0.5, "timeout": 3},
    )
    del plays.variables["secrets_catalog"]
    plays.write_inventory()
    return plays


def there(stack) -> tuple[list[str], dict[str, bytes]]:
    """Return the containers, as they were started, and every file of the deployment."""
    found = sorted(f"{one['Id']} {one['State']['StartedAt']}" for one in containers(stack))
    return found, {str(path): path.read_bytes() for path in stack.directory.glob("*") if path.is_file()}


def changed(done) -> int:
    return int(re.search(r"changed=(\d+)", done.stdout)[1])


def test_check_says_what_is_there_and_writes_nothing(stack, plays):
    before, inventory = there(stack), sorted(path.name for path in plays.folder.iterdir())
    done = plays.run("adopt.yml", "--check")
    assert done.returncode == 0, done.stdout
    assert "FOUND  postgres  postgresql  db1  POSTGRES_USER + POSTGRES_PASSWORD  4 services" in done.stdout
    assert published(stack).password not in done.stdout
    assert (there(stack), sorted(path.name for path in plays.folder.iterdir())) == (before, inventory)


def test_it_is_adopted_and_nothing_that_runs_changes(stack, plays):
    before = there(stack)
    done = plays.run("adopt.yml")
    assert done.returncode == 0 and changed(done) == 3, done.stdout
    assert there(stack) == before
    draft = yaml.safe_load((plays.folder / "group_vars" / "all" / "secrets_catalog.yml").read_text())
    assert draft == {"secrets_catalog": {"postgres": {}}}
    assert stored(plays) == published(stack)


def test_the_second_time_changes_nothing(stack, plays):
    before, store = there(stack), plays.store_path.read_bytes()
    done = plays.run("adopt.yml")
    assert done.returncode == 0 and changed(done) == 0, done.stdout
    assert (there(stack), plays.store_path.read_bytes()) == (before, store)


def test_awx_can_run_the_playbooks_out_of_the_repository(plays):
    root = plays.folder.parent.parent
    assert "secrets.git" in (root / "collections" / "requirements.yml").read_text()
    command = plays.command("adopt.yml", "--check")
    command[1] = str(root / "playbooks" / "adopt.yml")
    done = subprocess.run(command, cwd=ROOT, env=plays.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and changed(done) == 0, done.stdout + done.stderr
    assert {path.name for path in (root / "playbooks").iterdir()} == {
        path.name for path in (ROOT / "playbooks").glob("*.yml") if "_" not in path.name
    }


def test_what_was_adopted_can_be_rotated(stack, plays):
    plays.rotate()
    check_settled(stack, plays)
    again = plays.run("adopt.yml")
    assert again.returncode == 0 and changed(again) == 0, again.stdout
    assert "FOUND  postgres  postgresql  db1  POSTGRES_USER + POSTGRES_PASSWORD  4 services" in again.stdout
    assert "ASK" not in again.stdout and "WARN" not in again.stdout, again.stdout
