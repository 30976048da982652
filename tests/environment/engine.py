# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Docker engine and Compose v2, where none answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import images
from stack import Stack
from system import BUILD, LOGS, SetupError, install, run, say, succeeds

STARTED = BUILD / "dockerd.json"
PATIENCE = 60  # seconds that an engine gets to start
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def answers() -> bool:
    return succeeds("docker", "version", "--format", "{{.Server.Version}}")


def ensure() -> None:
    """Have an engine that answers; one that does is left alone."""
    if answers():
        return
    if os.environ.get("DOCKER_HOST"):
        raise SetupError(f"Docker does not answer at DOCKER_HOST={os.environ['DOCKER_HOST']}: start it, or unset it")
    if not (shutil.which("docker") and shutil.which("dockerd")):
        # From Debian 13 on, docker.io is the engine alone.
        client = ["docker-cli"] if succeeds("apt-cache", "show", "docker-cli") else []
        install("Docker Engine", "docker.io", *client, "iptables", "ca-certificates", "debootstrap")
    if os.geteuid() != 0:
        raise SetupError("Docker does not answer: start it, and see that you may use it (group docker), or run as root")
    if Path("/run/systemd/system").is_dir():
        run("systemctl", "start", "docker", log="systemctl.log", problem="Docker did not start")
        wait("systemctl status docker")
    elif not answers():
        start()


def start() -> None:
    """Start an engine of our own, which outlives this process."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / "dockerd.log"
    say(f"starting dockerd, log in {path}")
    with path.open("w") as log:
        process = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd="/"
        )
    STARTED.write_text(json.dumps({"pid": process.pid, "born": born(process.pid)}))
    try:
        wait(path, process)
    except SetupError as error:
        process.terminate()
        process.wait()
        STARTED.unlink()
        raise SetupError(f"{error}: {images.last_line(path.read_text(errors='replace'))}") from None


def wait(where: str | Path, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not answers():
        if (process and process.poll() is not None) or time.monotonic() > deadline:
            raise SetupError(f"Docker did not start, see {where}")
        time.sleep(0.5)


def born(pid: int) -> str:
    """Return the start time of a process, which tells it from a later one with its number; nothing if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # In a container without an init an ended process stays, as a zombie.
    return "" if fields[0] == "Z" else fields[19]


def stop() -> None:
    """Stop the engine that the set-up started, and no other."""
    if not STARTED.exists():
        return
    ours = json.loads(STARTED.read_text())
    if ours["born"] and born(ours["pid"]) == ours["born"]:
        say("stopping the dockerd that the set-up started")
        os.kill(ours["pid"], signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while born(ours["pid"]) == ours["born"] and time.monotonic() < deadline:
            time.sleep(0.2)
    STARTED.unlink()


def remove_stacks() -> None:
    """Remove the stacks that the demo or a stopped test left running."""
    for folder in (BUILD / "stacks").glob("*"):
        Stack(folder.name).down()


def ensure_compose() -> None:
    """Have ``docker compose`` of version 2: Ubuntu's package, or Debian 13's, unpacked as a plug-in of this user."""
    # The plug-in exists from version 2 on; version 1 was the separate command docker-compose.
    if succeeds("docker", "compose", "version"):
        return
    if succeeds("apt-cache", "show", "docker-compose-v2"):
        install("Docker Compose v2", "docker-compose-v2")
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg") and KEYRING.exists()):
        raise SetupError("Docker Compose v2 is missing: install it, see https://docs.docker.com/compose/install/")
    say("Compose v2 as a plug-in of the Docker client")
    plugins = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "cli-plugins"
    with tempfile.TemporaryDirectory(prefix="chat4all-apt-") as name:
        work = Path(name)
        # A private apt root: this machine's own release may have Compose v1 only, and its sources are not ours to edit.
        for folder in ("lists/partial", "cache/archives/partial", "unpacked"):
            (work / folder).mkdir(parents=True)
        (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {images.mirror()} trixie main\n")
        options = {
            "Dir::Etc::sourcelist": work / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": work / "lists",
            "Dir::Cache": work / "cache",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "",
        }
        apt = ["apt-get", *(f"--option={key}={value}" for key, value in options.items())]
        problem = "Docker Compose v2 could not be fetched"
        run(*apt, "update", log="compose.log", problem=problem)
        run(*apt, "download", "docker-compose", log="compose.log", problem=problem, cwd=work)
        [package] = work.glob("*.deb")
        run("dpkg", "-x", str(package), str(work / "unpacked"), log="compose.log", problem="dpkg failed")
        binary = work / "unpacked" / "usr" / "libexec" / "docker" / "cli-plugins" / "docker-compose"
        plugins.mkdir(parents=True, exist_ok=True)
        shutil.copy(binary, plugins / "docker-compose.new")
        (plugins / "docker-compose.new").replace(plugins / "docker-compose")
    if not succeeds("docker", "compose", "version"):
        raise SetupError(f"Docker Compose does not run although it was installed into {plugins}")
