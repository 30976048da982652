# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotations of a real stack, whole, broken and killed, and a look at every place where a value could show.

Runs with the Python of the ansible-core that is tested: ``python scenario.py NAME RESULT [--part]``. Everything is as
loud as it can be: -vvvv --diff, a log, a fact cache, ssh, and a server that logs and remembers every statement.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

# First: it knows where the others are.
from ground import ROOT, Ground, ScenarioError  # noqa: E402, I001
from databases import Databases  # noqa: E402
from plays import Plays  # noqa: E402
from search import Channel, Needles, unsealed  # noqa: E402
from key_phases import SigningKeys  # noqa: E402
from platform_tokens import Tokens, Webhooks  # noqa: E402
from watch import Engine, Sampler, Statements, Syslog, Versions, WatchError, kill, snapshot  # noqa: E402

CHANNELS = (
    "output",
    "ansible log",
    "runner artifacts",
    "fact cache",
    "home",
    "temporary files",
    "momentary files",
    "shared folders",
    "ansible-tmp",
    "arguments",
    "environments",
    "compose error",
    "syslog",
    "engine events",
    "container logs",
    "removed containers",
    "server log",
    "statement history",
    "running statements",
    "server files",
    "state folder",
    "deployment folder",
    "reports",
)
# Everybody's; a value that is not in one of our own folders may still have been left there.
SHARED = ("/tmp", "/var/tmp", "/dev/shm")
# What the engine hands to its own helper for a moment: the container's own environment, as docker inspect shows it.
ENGINES_OWN = "runc-process"
LARGEST = 1 << 24  # bytes of a file
# Every character that one of the encodings changes.
SPECIAL = '/+%&=?"\\@:~ä'
LOUD = (
    "log_statement = 'all'",
    "log_min_duration_statement = 0",
    "log_error_verbosity = verbose",
    "shared_preload_libraries = 'pg_stat_statements'",
)
SSH = """\
#!/bin/sh
# What ssh does with its last argument, without a network; a login has an environment of its own.
for command; do :; done
exec env -i PATH="$PATH" HOME={home} TMPDIR={tmp} DOCKER_HOST="$DOCKER_HOST" /bin/sh -c "$command"
"""
REFUSING = (
    *((playbook, "postgres") for playbook in ("provision.yml", "rotate.yml", "status.yml", "revoke.yml", "abort.yml")),
    ("rotate-jwt.yml", "jwt"),
    ("rotate.yml", "telegram-webhook"),
)
Reaction = Callable[[], None]


class Scenario:
    """One stack under one ansible-core."""

    def __init__(self, name: str, part: bool = False) -> None:
        self.name, self.part = name, part
        self.folder = ROOT / "build" / "canary" / re.sub(r"\W+", "-", name)
        self.channels = {name: Channel(name) for name in CHANNELS}
        self.controls = {name: f"canary-{secrets.token_hex(16)}" for name in CHANNELS}
        self.runs: dict[str, str] = {}
        # Runs that did not end as they must for the test to mean anything.
        self.problems: list[str] = []
        self.began = time.time()
        # What a person brought, used or not, with a label.
        self.brought: list[tuple[str, str]] = []
        # What the control of the shared folders leaves.
        self.left_behind = Path(SHARED[0], f"chat4all-canary-{secrets.token_hex(4)}")

    # -- the ground

    def prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("home", "target/home", "tmp", "target/tmp", "facts", "runner", "inventory", "logs", "reports"):
            (self.folder / name).mkdir(parents=True)
        plugins = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "cli-plugins"
        for name in ("home", "target/home"):
            (self.folder / name / ".docker").mkdir()
            if plugins.is_dir():
                (self.folder / name / ".docker" / "cli-plugins").symlink_to(plugins)
        ssh = self.folder / "ssh"
        ssh.write_text(SSH.format(home=self.folder / "target" / "home", tmp=self.folder / "target" / "tmp"))
        ssh.chmod(0o700)
        (self.folder / "controls.json").write_text(json.dumps({"canary": self.controls}))

        self.stack = Ground(f"canary-{self.folder.name}")
        self.plays = Plays(
            self.folder / "inventory",
            self.stack.directory,
            ansible_connection="ssh",
            ansible_host="localhost",
            ansible_ssh_executable=str(ssh),
            ansible_ssh_transfer_method="piped",
            rotate_rollout={"quiet": 0.3, "settle": 0.3, "timeout": 30},
        )

    def start_stack(self) -> None:
        """Start the stack with a password that looks different in every encoding, and a server that tells all."""
        self.stack.create()
        env = self.stack.directory / ".env"
        first = f"POSTGRES_PASSWORD='{secrets.token_urlsafe(9)}{SPECIAL}{secrets.token_urlsafe(9)}'"
        env.write_text(re.sub(r"POSTGRES_PASSWORD=.*", lambda _: first, env.read_text()))
        self.stack.up()
        for setting in LOUD:
            self.stack.psql(f"ALTER SYSTEM SET {setting}")
        self.stack.docker("restart", self.stack.server)
        self.stack.wait()
        self.stack.psql("CREATE EXTENSION pg_stat_statements")
        self.plays.variables["secrets_catalog"] = self.stack.catalog()
        self.plays.write_inventory()

    def session(self) -> list[str]:
        """Return the command of a session as the superuser, on the server's own socket."""
        options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align")
        return ["docker", "exec", "-i", self.stack.server, "psql", *options, "-U", "chat4all", "-d", "chat4all"]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in self.plays.environment.items() if not name.startswith("PYTHONPATH")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "ANSIBLE_HOME": str(self.folder / "home" / ".ansible"),
            "ANSIBLE_DISPLAY_OK_HOSTS": "1",
            "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "1",
            "ANSIBLE_LOG_PATH": str(self.folder / "ansible.log"),
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit",
            "JUNIT_OUTPUT_DIR": str(self.folder / "reports"),
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.folder / "facts"),
        }

    # -- runs

    def run(
        self,
        name: str,
        playbook: str,
        *arguments: str,
        shows: str = "",
        ends: int | None = None,
        at: dict[str, Reaction] | None = None,
        runner: bool = False,
        killed: str = "",
        **environment: str,
    ) -> str:
        """Run a playbook; ``at`` says what happens as soon as patterns show, ``killed`` when everything is ended.

        ``shows`` and ``ends`` are what its output and its exit code must be.
        """
        command = self.plays.command(playbook, "-vvvv", "--diff", *arguments)
        if runner:
            command = self.runner(name, playbook, *arguments)
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        waiting = list((at or {}).items())
        if killed:
            waiting.append((killed, lambda: self.kill(process.pid)))
        lines = []
        for raw in process.stdout:
            line = raw.decode(errors="replace")
            lines.append(line)
            # One after the other: what ends a fault comes after what plants it.
            if waiting and re.search(waiting[0][0], line):
                waiting.pop(0)[1]()
        code = process.wait()
        output = "".join(lines)
        log = self.folder / "logs" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.log"
        log.write_text(output)
        self.channels["output"].add(name, output)
        self.runs[name] = next(
            (line for line in output.splitlines() if re.match(r"ROTATED|STOPPED", line)), f"exit code {code}"
        )
        missed = [pattern for pattern, _react in waiting]
        if missed or not re.search(shows, output) or (ends is not None and code != ends):
            self.problems.append(
                f"{name}: exit code {code}, must show {shows!r}, waited in vain for {missed}; see {log.relative_to(ROOT)}"
            )
        print(f"  {time.monotonic() - began:5.1f} s  {name}", flush=True)
        self.collect(name)
        return output

    def runner(self, name: str, playbook: str, *arguments: str) -> list[str]:
        """Return the command by which AWX would run a playbook."""
        options = " ".join(["-vvvv", "--diff", *arguments])
        return [
            *(sys.executable, "-m", "ansible_runner", "run", str(self.folder / "runner")),
            *("-p", self.plays.command(playbook)[1], "--project-dir", str(ROOT)),
            *("--inventory", str(self.plays.folder), "--ident", name.replace(" ", "-"), f"--cmdline={options}"),
        ]

    @staticmethod
    def kill(pid: int) -> None:
        if kill(pid) < 2:
            raise ScenarioError("nothing worked at the moment of the kill")

    def collect(self, run: str) -> None:
        """Keep what is in every folder now."""
        for channel, folder, exempt in (
            ("runner artifacts", self.folder / "runner" / "artifacts", ()),
            ("fact cache", self.folder / "facts", ()),
            ("home", self.folder / "home", ()),
            ("home", self.folder / "target" / "home", ()),
            ("temporary files", self.folder / "tmp", ()),
            ("temporary files", self.folder / "target" / "tmp", ()),
            ("reports", self.folder / "reports", ()),
            ("deployment folder", self.stack.directory, (".env",)),
            ("deployment folder", self.plays.folder, (".vault-password",)),
            ("state folder", self.stack.directory / ".chat4all", ()),
        ):
            for name, data in snapshot(folder, *exempt):
                self.channels[channel].add(f"{name} after {run}", data)
        for folder in (self.folder / "target" / "home" / ".ansible" / "tmp").glob("ansible-tmp-*"):
            for name, data in snapshot(folder):
                self.channels["ansible-tmp"].add(f"{folder.name}/{name} after {run}", data)

    # -- what goes wrong

    @contextlib.contextmanager
    def unwritable(self, folder: Path) -> Iterator[None]:
        """Have a folder in which nothing can be made, not even by root."""
        self.seal(folder)
        try:
            yield
        finally:
            self.open(folder)

    @staticmethod
    def seal(folder: Path) -> None:
        if os.geteuid() == 0:
            subprocess.run(["chattr", "+i", str(folder)], check=True)
        else:
            folder.chmod(0o500)

    @staticmethod
    def open(folder: Path) -> None:
        if os.geteuid() == 0:
            subprocess.run(["chattr", "-i", str(folder)], check=True)
        else:
            folder.chmod(0o700)

    @contextlib.contextmanager
    def env_replaced(self, text: str | None) -> Iterator[None]:
        """Have another ``.env``: a text, or a folder of that name."""
        env = self.stack.directory / ".env"
        kept = env.rename(self.folder / "env-aside")
        if text is None:
            env.mkdir()
        else:
            env.touch(mode=0o600)
            env.write_text(text)
        try:
            yield
        finally:
            shutil.rmtree(env) if env.is_dir() else env.unlink()
            kept.rename(env)

    def env_refused(self, name: str, text: str, shows: str, command: Sequence[str]) -> None:
        """Run a playbook with an ``.env`` that Compose, or we, cannot read."""
        with self.env_replaced(text):
            output = self.run(name, *command, ends=2, shows=shows)
        self.channels["compose error"].add(name, output)

    # -- the scenario

    def play(self) -> None:
        """Everything, in an order in which each run begins where the one before has left the stack."""
        self.run("provision", "provision.yml", ends=0, shows="imported from .env")
        self.run("plan", "rotate.yml", "-e", "rotate=postgres", "--check", ends=0, shows="PLAN")
        databases, others = Databases(self), [Webhooks(self), Tokens(self), SigningKeys(self)]
        databases.begin()
        self.plant_controls()
        for flow in (*others, databases):
            flow.part() if self.part else flow.whole()
        if self.part:
            self.run("status", "status.yml", shows="serial")
            return
        for playbook, name in REFUSING:
            self.refuses(f"{playbook} of {name}", playbook, "-e", f"rotate={name}")
        keep = {"ANSIBLE_KEEP_REMOTE_FILES": "1"}
        self.run("files kept", "rotate.yml", "-e", "rotate=postgres", ends=2, shows="pipelining is off", **keep)
        self.run("provision again", "provision.yml", ends=0)

    def killed(
        self,
        name: str,
        *moments: str,
        command: Sequence[str],
        then: Sequence[str] = (),
        ends: int = 0,
        shows: str = "RESUME(.|\n)*ROTATED",
    ) -> None:
        """End everything while a module works that has secrets in its memory; then go on with the same command, or another."""
        # Who runs a play is remembered with the lock: the state folder's control.
        who = {"LOGNAME": self.controls["state folder"]}
        *before, moment = moments
        self.run(f"{name} killed", *command, at=dict.fromkeys(before, lambda: None), killed=moment, **who)
        then = then or command
        self.run(f"{name} killed, then {then[0]}", *then, "-vvvvv", ends=ends, shows=shows, **who)

    def refuses(self, name: str, playbook: str, *arguments: str) -> None:
        """Where Ansible would show a module's arguments, on the target's disk or in its own output, nothing is done."""
        debug, off = {"ANSIBLE_DEBUG": "1"}, ("-e", "ansible_pipelining=false")
        self.run(f"{name} without pipelining", playbook, *arguments, *off, ends=2, shows="pipelining is off")
        self.run(f"{name} with debug output", playbook, *arguments, ends=2, shows="ANSIBLE_DEBUG p", **debug)

    # -- the controls

    def plant_controls(self) -> None:
        """Have a harmless value show in every channel, in the way in which a secret would."""
        given = ("-e", f"@{self.folder / 'controls.json'}")
        playbook = str(HERE / "control.yml")
        self.run("controls", playbook, *given, ends=0)
        self.run("controls by runner", playbook, *given, "--tags", "print", runner=True, ends=0)
        self.run(
            *("controls killed", playbook, *given, "--tags", "killed", "-e", "ansible_pipelining=false"),
            killed=r"EXEC.*chmod u\+.*AnsiballZ_command\.py",
        )
        # As short as what a task does.
        short = [sys.executable, "-c", "pass"]
        for _attempt in range(3):
            subprocess.run([*short, self.controls["arguments"]], check=True)
            subprocess.run(short, check=True, env={"CANARY": self.controls["environments"]})
            momentary = self.folder / "tmp" / "momentary"
            momentary.write_text(self.controls["momentary files"])
            time.sleep(0.03)
            momentary.unlink()
        self.left_behind.write_text(self.controls["shared folders"])
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            Path(name, "docker-compose.yml").write_text("services: {one: {image: one}}\n")
            Path(name, ".env").write_text(f'PASSWORD="{self.controls["compose error"]}\n')
            done = subprocess.run(["docker", "compose", "config"], cwd=name, capture_output=True, check=False)
            self.channels["compose error"].add("Compose itself", done.stdout + done.stderr)
        proxy = self.stack.containers("proxy")[0]
        self.stack.docker("exec", proxy, "true", self.controls["engine events"])
        self.stack.docker("exec", proxy, "sh", "-c", f"echo {self.controls['container logs']} > /proc/1/fd/1")
        mine = f"--label=com.docker.compose.project={self.stack.project}"
        say = f"echo {self.controls['removed containers']}; sleep 1"
        self.stack.docker("run", "--rm", mine, "--entrypoint", "sh", "chat4all-test/consumer:1", "-c", say)
        self.stack.docker("exec", self.stack.server, "sh", "-c", f"echo {self.controls['server files']} > /tmp/canary")
        self.stack.psql(f"CREATE ROLE canary PASSWORD '{self.controls['server log']}'")
        self.stack.psql(f"ALTER ROLE canary PASSWORD '{self.controls['statement history']}'")
        self.stack.psql(f"SELECT pg_sleep(0.5), '{self.controls['running statements']}'")

    # -- looking

    def watch(self) -> None:
        """Run the scenario with everything watched, and sort what was seen."""
        tmp = [self.folder / "tmp", self.folder / "target" / "tmp"]
        homes = [self.folder / "home" / ".ansible" / "tmp", self.folder / "target" / "home" / ".ansible"]
        verifiers = "SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"
        running = "SELECT DISTINCT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        began = time.monotonic()
        with contextlib.ExitStack() as watchers:
            sampler = watchers.enter_context(Sampler([*tmp, *homes]))
            syslog = watchers.enter_context(Syslog())
            engine = watchers.enter_context(Engine(self.stack.project))
            statements = watchers.enter_context(Statements(self.session(), running))
            roles = watchers.enter_context(Statements(self.session(), verifiers))
            store = watchers.enter_context(Versions(self.plays.store_path))
            self.play()
        self.stores = [self.plays.store(data) for data in store.contents]
        self.verifiers = set(roles.data.decode().split())
        self.look_ms = round(1000 * (time.monotonic() - began) / sampler.looks, 1)
        add = {name: channel.add for name, channel in self.channels.items()}
        add["arguments"]("processes", sampler.arguments)
        for process, entry in sampler.environments:
            add["environments"](f"process {process[:80]}", entry)
        for path, data in sampler.files:
            add["momentary files"](path, data)
        add["syslog"]("/dev/log", syslog.data)
        add["engine events"]("docker events", b"".join(engine.events))
        log = ROOT / "build" / "log" / "dockerd.log"
        if log.exists():  # the set-up has started the engine
            add["engine events"]("the engine's log", log.read_bytes())
        there = self.stack.docker("ps", "--all", "--quiet").split()
        for name, data in engine.logs:
            add["container logs" if name.split()[0] in there else "removed containers"](name, data)
        add["server log"]("docker logs", self.stack.server_log())
        add["statement history"]("pg_stat_statements", self.stack.psql("SELECT query FROM pg_stat_statements"))
        add["running statements"]("pg_stat_activity", statements.data)
        changed = [line.split(" ", 1)[1] for line in self.stack.docker("diff", self.stack.server).splitlines()]
        for path in changed:
            with contextlib.suppress(Exception):
                add["server files"](
                    path,
                    self.stack.docker("exec", self.stack.server, "sh", "-c", f"test ! -f '{path}' || cat '{path}'"),
                )
        add["ansible log"]("ansible.log", (self.folder / "ansible.log").read_bytes())
        for folder in SHARED:
            for name, data in self.new_files(Path(folder)):
                add["shared folders"](f"{folder}/{name}", data)
        self.left_behind.unlink()

    def new_files(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        """Yield what was written below a folder since the scenario began."""
        for parent, folders, names in os.walk(folder):
            # This clone may be there itself; what it holds is searched by its own channels.
            folders[:] = [name for name in folders if Path(parent, name) != ROOT]
            for path in [Path(parent, name) for name in names if not name.startswith(ENGINES_OWN)]:
                with contextlib.suppress(OSError):
                    found = path.lstat()
                    if stat.S_ISREG(found.st_mode) and found.st_mtime >= self.began and found.st_size < LARGEST:
                        yield str(path.relative_to(folder)), path.read_bytes()

    def needles(self) -> Needles:
        """Return every value that was ever in the store, brought by a person, or sent to the server."""
        needles = Needles()
        needles.add("vault password", self.plays.password_file.read_text().strip())
        serials = set()
        for store in self.stores:
            serials.add(store["secrets_store"]["serial"])
            for label, value in self.plays.values(store):
                needles.add(f"{label} of serial {store['secrets_store']['serial']}", value)
        for label, value in self.brought:
            needles.add(label, value)
        if serials != set(range(1, max(serials) + 1)):
            raise ScenarioError(f"not every version of the store was seen: {sorted(serials)}")
        for verifier in self.verifiers:
            for part in verifier.replace("$", ":").split(":")[2:]:
                needles.add("a part of a verifier", part)
        return needles

    def report(self) -> dict[str, Any]:
        secret, harmless = self.needles(), Needles()
        for name, value in self.controls.items():
            harmless.add(name, value)
        report: dict[str, Any] = {
            "python": sys.version.split()[0],
            "channels": list(CHANNELS),
            "values": len(secret.labels),
            "runs": self.runs,
            "problems": self.problems,
            "look_ms": self.look_ms,
        }
        self.channels["reports"].add("this report", json.dumps(report))
        report["bytes"] = {name: channel.size for name, channel in self.channels.items()}
        report["red"] = [
            name
            for name, channel in self.channels.items()
            if any(label == name for label, _source in channel.search(harmless))
        ]
        report["controls_red"] = len(report["red"])
        report["found"] = [
            f"{name}: {label}, in {source}, at byte {place}"
            for name, channel in self.channels.items()
            for (label, source), place in channel.search(secret).items()
        ]
        report["found"] += [f"{name}: the key to a sealed value" for name in unsealed(list(self.channels.values()))]
        report["hits"] = len(report["found"])
        return report


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait for others who examine this machine: there is one system log."""
    with Path(tempfile.gettempdir(), "chat4all-canary.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def play(name: str, part: bool = False) -> dict[str, Any]:
    """Run the scenario and return its report; nothing that runs is left behind."""
    scenario = Scenario(name, part)
    scenario.prepare()
    began = time.monotonic()
    try:
        scenario.start_stack()
        scenario.watch()
        report = scenario.report()
    finally:
        scenario.stack.down()
    report["seconds"] = round(time.monotonic() - began)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description="Look for secrets wherever one could show.")
    parser.add_argument("name")
    parser.add_argument("result", type=Path)
    parser.add_argument("--part", action="store_true", help="leave out most failures")
    options = parser.parse_args()
    try:
        with alone():
            report = play(options.name, options.part)
    except (ScenarioError, WatchError) as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 1
    options.result.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
