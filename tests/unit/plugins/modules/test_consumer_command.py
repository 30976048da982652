# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.modules import consumer_command

SECRET = "k3-Very~secret.value"
DEFAULTS = {"consumer": "backup", "timeout": 60, "mask": [SECRET], "log_dir": None}
LOCK = {"state_dir": None, "holder": None, "ledger": []}


def run(*command, check_mode=False, **given):
    return consumer_command.work({**DEFAULTS, **LOCK, "command": list(command), **given}, check_mode)


def failure(*command, **given):
    with pytest.raises(SecretsError) as error:
        run(*command, **given)
    assert "\n" not in error.value.message and SECRET not in error.value.message
    return error.value


def test_the_command_gets_its_words_as_they_are_and_no_shell(tmp_path):
    place = tmp_path / "a b;$HOME"
    assert run("touch", str(place))["changed"]
    assert place.exists()


def test_check_mode_runs_nothing(tmp_path):
    assert run("touch", str(tmp_path / "x"), check_mode=True) == {"changed": True}
    assert list(tmp_path.iterdir()) == []


def test_it_is_given_nothing_of_the_plays_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "/x")
    monkeypatch.setenv("PATH", "/usr/bin")
    run("sh", "-c", f"env > {tmp_path}/env; ps -o sid= -p $$ >> {tmp_path}/env; cat >> {tmp_path}/env")
    text = (tmp_path / "env").read_text()
    assert "ANSIBLE" not in text and "/usr/sbin" in text
    assert int(text.split()[-1]) != os.getsid(0)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sh", "-c", f"echo began; echo 'cannot use {SECRET}' >&2; exit 3"], "exit code 3: cannot use ********"),
        (["no-such-command-here"], "no-such-command-here: command not found"),
        (["/etc"], "/etc: Permission denied"),
        (["sh", "-c", "kill -9 $$"], "killed by signal 9"),
    ],
)
def test_a_failure_is_one_masked_line_that_names_the_consumer(command, said, tmp_path):
    error = failure(*command, log_dir=str(tmp_path / "runs"))
    assert error.message.startswith("backup failed: ") and error.details["reason"] == said
    assert error.message.endswith(said)
    assert error.details["service"] == "backup" and error.details["log"] == str(tmp_path / "runs" / "backup.log")
    log = tmp_path / "runs" / "backup.log"
    assert SECRET not in log.read_text() and log.stat().st_mode & 0o777 == 0o600


def test_what_does_not_end_in_time_is_ended_with_all_that_it_has_started(tmp_path):
    error = failure("sh", "-c", f"sleep 987 & echo $! > {tmp_path}/pid; echo waiting; wait", timeout=1)
    assert error.details["reason"] == "did not end within 1 s: waiting"
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{child}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
        except OSError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("its child still runs")


def test_what_stays_in_the_background_keeps_nobody_waiting(tmp_path):
    began = time.monotonic()
    run("sh", "-c", f"sleep 50 & echo $! > {tmp_path}/pid")
    os.kill(int((tmp_path / "pid").read_text()), 9)
    assert time.monotonic() - began < 40


def test_of_a_long_output_the_end_is_saved_without_a_half_of_a_value(tmp_path):
    script = f"yes {SECRET} | head -n 20000; exit 1"
    error = failure("sh", "-c", script, log_dir=str(tmp_path))
    text = (tmp_path / "backup.log").read_text()
    assert error.details["reason"] == "exit code 1: ********"
    assert 1000 < len(text) < 200_000
    assert set(text.splitlines()[1:]) == {"********"} and SECRET[4:] not in text
