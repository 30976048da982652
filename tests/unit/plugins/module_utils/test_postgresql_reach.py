# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
import sys

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import postgresql_reach
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import Completed
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql_reach import AtAddress, reach_of

# Says what it got: arguments, environment, the password that it asked for without a terminal, the rest of its input.
PSQL = f"""#!{sys.executable}
import json, os, sys
try:
    os.close(os.open("/dev/tty", os.O_RDWR))
    terminal = True
except OSError:
    terminal = False
password, script = sys.stdin.readline(), sys.stdin.read()
print(json.dumps([sys.argv[1:], dict(os.environ), terminal, password, script]))
sys.exit(2)
"""


class Docker:
    """Remembers what it was asked to do."""

    def __init__(self, *images: str, returncode: int = 0) -> None:
        self.images = images
        self.returncode = returncode
        self.calls = []

    def run(self, *arguments: str, **options: object) -> Completed:
        self.calls.append((arguments, options))
        if arguments[0] == "image":
            return Completed(0, "\n".join(self.images), "")
        return Completed(self.returncode, "", "no such network")

    def last_line(self, text: str) -> str:
        return text


@pytest.fixture
def ca(tmp_path):
    path = tmp_path / "ca.pem"
    path.touch()
    return str(path)


@pytest.fixture
def psql(tmp_path, monkeypatch):
    """A psql on this host, or none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "psql"
    path.write_text(PSQL)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    return path


def reach(ca: str, docker: Docker, **more: object) -> AtAddress:
    return reach_of({"address": {"host": "db.example.com", "port": 5433, "ca": ca, **more}}, docker)


def test_the_hosts_own_psql_gets_the_password_by_its_input_alone(ca, psql, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "another")
    monkeypatch.setenv("PGSSLMODE", "disable")
    one = reach(ca, Docker())
    done = one.run(one.network("app", "db"), "s3cret'pass", "SELECT 1;\n", 20)
    arguments, environment, terminal, password, script = json.loads(done.stdout)
    assert (done.returncode, terminal, password, script) == (2, False, "s3cret'pass\n", "SELECT 1;\n")
    assert arguments[:-1] == ["-X", "-q", "-A", "-t", "-W", "-v", "ON_ERROR_STOP=1", "-d"]
    assert "host='db.example.com' port='5433' user='app' dbname='db'" in arguments[-1]
    assert f"sslmode='verify-full' sslrootcert='{ca}'" in arguments[-1]
    assert not [name for name in environment if name.startswith("PG") and name != "PGCLIENTENCODING"]
    assert "s3cret" not in str(arguments) + str(environment)


def test_a_psql_that_does_not_end_is_ended(ca, psql):
    psql.write_text(f"#!{sys.executable}\nimport time; time.sleep(60)\n")
    one = reach(ca, Docker())
    with pytest.raises(SecretsError, match=r"^db\.example\.com:5433: psql did not end within 0\.2 s$"):
        one.run("", "x", "", 0.2)


def test_without_psql_a_client_is_run_from_an_image_that_is_there(ca, psql):
    psql.unlink()
    docker = Docker("<none>:<none>", "app:1", "registry.example.com/library/postgres:17-alpine")
    one = reach(ca, docker, network="app_default")
    one.run(one.network("app", "db"), "s3cret", "SELECT 1;\n", 20)
    arguments, options = docker.calls[-1]
    text = " ".join(arguments)
    assert options["stdin"] == "s3cret\nSELECT 1;\n" and "s3cret" not in text
    assert "run --rm -i --init --pull never" in text and "--network app_default" in text
    assert f"source={ca},target={postgresql_reach.CA_INSIDE},readonly" in text
    assert f"sslrootcert='{postgresql_reach.CA_INSIDE}'" in text and "sslmode='verify-full'" in text
    assert "--entrypoint psql registry.example.com/library/postgres:17-alpine -X" in text
    assert one.log(0) is None and one.elsewhere and one.name == "db.example.com:5433"


def test_what_is_missing_is_one_line(ca, psql):
    with pytest.raises(SecretsError, match=r"^address\.ca: /nowhere/ca\.pem is no file on this host"):
        reach("/nowhere/ca.pem", Docker())
    psql.unlink()
    with pytest.raises(SecretsError, match="no psql on this host and no image with one; apt-get install"):
        reach(ca, Docker("app:1", "mariadb:11"))
    one = reach(ca, Docker("postgres:17", returncode=125))
    with pytest.raises(SecretsError, match="psql of postgres:17 cannot be run: no such network"):
        one.run("", "x", "", 20)
    assert os.path.isfile(ca)
