# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import pytest
from ansible import constants
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.state import person
from ansible_collections.chat4all.secrets.plugins.plugin_utils import deployment as deployments
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment, is_gone, owner
from ansible_collections.chat4all.secrets.plugins.plugin_utils.hosts import Unreachable, everywhere, members


def deployment(pipelining: bool = True) -> Deployment:
    action = SimpleNamespace(
        _task=SimpleNamespace(check_mode=False), _is_pipelining_enabled=lambda _module_style: pipelining
    )
    return Deployment(action, {"project_dir": "/srv/app"}, {"inventory_hostname": "db1"})


def test_nothing_is_done_where_ansible_would_show_arguments(monkeypatch):
    deployment().require_discretion()
    with pytest.raises(SecretsError, match="db1: pipelining is off"):
        deployment(pipelining=False).require_discretion()
    monkeypatch.setattr(constants, "DEFAULT_DEBUG", True)
    with pytest.raises(SecretsError, match="db1: ANSIBLE_DEBUG"):
        deployment().require_discretion()


@pytest.fixture
def ended() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen(["true"]) as process:
        return process.pid


def test_a_process_that_is_no_more_is_gone(ended):
    assert is_gone(owner(ended))
    assert not is_gone(owner()) and not is_gone(owner(1))


@pytest.mark.parametrize(
    ("name", "other"),
    [("boot_id", "another boot"), ("process_table", "4026539999"), ("getuser", "ben"), ("gethostname", "another")],
)
def test_of_a_process_that_is_not_seen_from_here_nothing_is_known(monkeypatch, ended, name, other):
    """Two containers of one name, say: each has processes of its own."""
    theirs = owner(ended)
    module = {"getuser": deployments.getpass, "gethostname": deployments.socket}.get(name, deployments)
    monkeypatch.setattr(module, name, lambda: other)
    assert not is_gone(theirs)


@pytest.mark.parametrize("holder", ["", "anna", "anna@laptop process 4194304", "anna@laptop process x #/"])
def test_of_an_owner_of_another_form_nothing_is_known(holder):
    assert not is_gone(holder)


def test_people_are_shown_user_machine_and_process():
    assert person(owner(4711)).endswith(" process 4711") and "@" in person(owner(4711))
    assert owner().startswith(f"{person(owner())} #") and str(os.getppid()) in person(owner())
    assert person("anna@laptop") == "anna@laptop"


class Memory:
    """A host whose state module answers from here; ``lost`` and ``held`` are what goes wrong on it."""

    def __init__(self, name: str, lost: bool = False, held: str = "") -> None:
        self.name, self.lost, self.held, self.asked = name, lost, held, []
        self.record = {"credential": "app", "rotation": f"r-{name}"}
        self.wall = 100.0
        self.state_dir = "/srv/app/.chat4all"

    def module(self, _name, action, **_given):
        self.asked.append(action)
        if self.lost:
            raise Unreachable(self.name, "no route")
        if self.held and action == "take":
            raise SecretsError(f"{self.name}: {self.held} holds the lock")
        lock = {"owner": self.held} if self.held else None
        return {
            "lock": lock,
            "record": self.record,
            "records": [self.record],
            "outcomes": {},
            "highest_serial": len(self.name),
            "ledger": {"entries": 1, "problem": ""},
            "took_over": None,
            "clock": {"wall": self.wall, "boot": 1.0},
        }


def spread(*hosts: Memory) -> Deployment:
    found = deployment()
    found.first, found._hosts = hosts[0], list(hosts)
    return found


HOLDER = {"rotation": "r-1", "owner": "anna"}


def test_the_lock_is_taken_on_every_host_or_on_none():
    hosts = Memory("db1"), Memory("app1"), Memory("app2", held="ben@laptop process 1 #x/y")
    with pytest.raises(SecretsError, match="app2: ben@laptop"):
        spread(*hosts).take(HOLDER)
    assert [host.asked[-1] for host in hosts] == ["release", "release", "release"]
    free = Memory("db1"), Memory("app1")
    spread(*free).take(HOLDER)
    assert [host.asked for host in free] == [["take"], ["take"]]


def test_whoever_has_the_first_host_is_not_disturbed_on_the_others():
    hosts = Memory("db1", held="ben@laptop process 1 #x/y"), Memory("app1")
    with pytest.raises(SecretsError, match="db1: ben@laptop"):
        spread(*hosts).take(HOLDER)
    assert hosts[1].asked == []


def test_a_lost_host_is_named_and_the_others_are_let_go():
    hosts = Memory("db1"), Memory("app1", lost=True), Memory("app2")
    with pytest.raises(Unreachable, match="app1 unreachable: no route"):
        spread(*hosts).take(HOLDER)
    assert hosts[0].asked == hosts[2].asked == ["take", "release"]


def test_what_one_host_alone_remembers_is_remembered():
    seen = spread(Memory("db1"), Memory("app10", held="ben")).state("read")
    assert [one["rotation"] for one in seen["records"]] == ["r-app10", "r-db1"]
    assert seen["lock"] == {"owner": "ben"} and seen["highest_serial"] == 5


def test_how_far_a_rotation_is_says_the_host_that_is_furthest():
    hosts = Memory("app1"), Memory("db1")
    hosts[0].record = {"rotation": "r-1", "credential": "app", "host": "app1"}
    hosts[1].record = {"rotation": "r-1", "credential": "app", "step": "roll_out"}
    for one in (hosts, hosts[::-1]):
        seen = spread(*one).state("read")
        assert [record["step"] for record in seen["records"]] == ["roll_out"]
        assert seen["record"]["step"] == "roll_out"


def test_each_host_has_a_clock_of_its_own():
    hosts = Memory("app1"), Memory("db1")
    hosts[1].wall = 90.0
    clocks = spread(*hosts).state("read")["clocks"]
    assert {name: clock["wall"] for name, clock in clocks.items()} == {"app1": 100.0, "db1": 90.0}


def limited(present: list[str]) -> tuple:
    hosts = [SimpleNamespace(name=name) for name in ("db1", "app1", "app2")]
    inventory = SimpleNamespace(get_hosts=lambda pattern, **_ignore: hosts if pattern == "all" else [])
    action = SimpleNamespace(
        _task=SimpleNamespace(get_play=lambda: SimpleNamespace(hosts="{{ x }}")),
        _templar=SimpleNamespace(template=lambda text: {"{{ x }}": "all"}[text]),
    )
    given = {
        "ansible_limit": "some",
        "ansible_play_hosts_all": present,
        "hostvars": SimpleNamespace(_inventory=inventory),
    }
    return action, given


def test_a_limit_that_leaves_out_a_host_is_refused():
    with pytest.raises(SecretsError, match="--limit leaves out app1, app2, and all hosts"):
        members(*limited(["db1"]))
    assert members(*limited(["db1", "app1", "app2"])) == ["db1", "app1", "app2"]


def test_work_on_one_host_does_not_keep_another_from_ending_and_a_lost_host_comes_first():
    done = []

    def work(host):
        if host.name == "db1":
            raise SecretsError("db1: no")
        if host.lost:
            raise Unreachable(host.name, "gone")
        done.append(host.name)

    with pytest.raises(Unreachable, match="app1"):
        everywhere([Memory("db1"), Memory("app1", lost=True), Memory("app2")], work)
    assert done == ["app2"]


URI = "postgresql://app:{}@{}/app"


def agreed(monkeypatch, *held: dict[str, str]) -> dict[str, str]:
    found = deployment()
    monkeypatch.setattr(found, "stored", lambda _name: {})
    hosts = [f"app{number}" for number in range(len(held))]
    facts = {
        "name": "app",
        "variables": {"user": "U", "password": "P", "uri": "URL"},
        "places": [{"host": host, "env": {"fingerprints": {}}} for host in hosts],
    }
    return found._agreed(facts, {host: {"app": one} for host, one in zip(hosts, held, strict=True)})


def test_hosts_have_to_agree_about_what_the_store_does_not_know(monkeypatch):
    assert agreed(monkeypatch, {"P": "a"}, {"U": "app"}, {"P": "a"}) == {"P": "a", "U": "app"}
    with pytest.raises(SecretsError, match=r"app: .env holds another P on app1 than on app0"):
        agreed(monkeypatch, {"P": "a"}, {"P": "b"})


def test_of_a_uri_hosts_have_to_agree_about_the_login_alone(monkeypatch):
    assert agreed(monkeypatch, {"URL": URI.format("a", "db")}, {"URL": URI.format("a", "10.0.0.1")})
    with pytest.raises(SecretsError, match="another URL on app1"):
        agreed(monkeypatch, {"URL": URI.format("a", "db")}, {"URL": URI.format("b", "db")})


def test_a_lost_host_hides_nothing_that_failed_on_another():
    def work(host: Memory) -> dict:
        if host.name == "app2":
            raise SecretsError("app2: scheduler did not come up")
        return host.module("", "keep")

    with pytest.raises(Unreachable, match="app1 unreachable: no route; and app2: scheduler did not come up") as lost:
        everywhere([Memory("db1"), Memory("app1", lost=True), Memory("app2")], work)
    assert [str(one) for one in lost.value.others] == ["app2: scheduler did not come up"]


def test_a_store_on_another_target_than_the_first_is_not_begun_anew():
    class Target:
        def __init__(self, name: str, content: str) -> None:
            self.name, self.content = name, content

        def module(self, _name, **_given):
            return {"content": self.content}

    found = spread(Target("app1", ""), Target("db1", "$ANSIBLE_VAULT;1.1;AES256"))
    found.host = "app1"
    found.arguments["store"] = {"location": "target"}
    read, _write = found._store_file("/srv/app/.secrets-store.yml")
    with pytest.raises(SecretsError, match="is not on app1, but on db1"):
        read()
