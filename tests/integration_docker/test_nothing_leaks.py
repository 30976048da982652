# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No value is in the output at -vvvv --diff, in a process's arguments, or in the server's log of all statements."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import encoded_forms


class ArgumentSampler(threading.Thread):
    """Collects the arguments of every process on the machine, every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.samples = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.005):
            self.samples += 1
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(process.read_bytes())
                except OSError:
                    continue

    def __enter__(self) -> ArgumentSampler:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.join()

    @property
    def text(self) -> str:
        return b"\n".join(self.seen).decode(errors="replace")


def hits(secrets: set[str], text: str) -> list[str]:
    """Return which forms of which values occur; only their lengths, so that a failure does not leak either."""
    return [f"a form of {len(form)} characters" for value in secrets for form in encoded_forms(value) if form in text]


@pytest.fixture(scope="module")
def run(stack, plays):
    """One rotation with everything switched on that could show a value; what it left to look at."""
    server = stack.containers("postgres")[0]
    for statement in ("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"):
        stack.docker("exec", server, "psql", "-U", "chat4all", "-d", "chat4all", "-c", statement)
    before = plays.secrets()
    with ArgumentSampler() as sampler:
        control = "canary-control-0123456789"
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)", control], check=True)
        done = plays.run("rotate-db.yml", "-vvvv", "--diff")
        provisioned = plays.run("provision.yml", "-vvvv", "--diff")
        status = plays.run("status.yml", "-vvvv", "--diff")
    assert done.returncode == 0, done.stdout
    assert (provisioned.returncode, status.returncode) == (0, 0), provisioned.stdout + status.stdout
    control_sql = "ALTER ROLE chat4all_canary PASSWORD 'canary-control-in-sql'"
    stack.docker(
        "exec",
        "-i",
        server,
        "psql",
        "-U",
        "chat4all",
        "-d",
        "chat4all",
        stdin=f"CREATE ROLE chat4all_canary; {control_sql};",
    )
    return {
        "secrets": before | plays.secrets(),
        "output": done.stdout + provisioned.stdout + status.stdout,
        "arguments": sampler.text,
        "samples": sampler.samples,
        "server log": stack.server_log(),
        "control": control,
    }


@pytest.mark.parametrize("channel", ["output", "arguments", "server log"])
def test_no_value_shows(run, channel):
    assert len(run["secrets"]) >= 4
    assert hits(run["secrets"], run[channel]) == []


def test_the_sampler_would_have_seen_a_value(run):
    assert run["samples"] > 100
    assert hits({run["control"]}, run["arguments"])


def test_the_log_would_have_shown_a_value(run):
    assert hits({"canary-control-in-sql"}, run["server log"])


def test_the_verifier_is_not_in_the_log_either(run):
    assert "SCRAM-SHA-256$" not in run["server log"]


def test_the_output_was_really_verbose(run):
    assert "EXEC" in run["output"] and "ROTATED" in run["output"]
