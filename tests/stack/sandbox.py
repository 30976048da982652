# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small Compose projects of containers that only sleep, to see what the real Compose does with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container, Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli, clean_environment

IMAGE = "chat4all-test/consumer:1"


def service(script: str = "exec sleep infinity", **more: Any) -> dict[str, Any]:
    """Return a service that runs a shell script and is healthy at once."""
    return {
        "image": IMAGE,
        "entrypoint": ["sh", "-c", script],
        "init": True,
        "environment": {"PW": "${PW}"},
        "healthcheck": {"test": ["CMD", "true"], "interval": "300ms"},
        **more,
    }


class Sandbox:
    """One project in a folder of its own; ``remove`` leaves nothing of it behind."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, f"test-{name}"
        self.remove()

    def write(self, services: dict[str, Any], **more: Any) -> None:
        """Write the Compose file. JSON is YAML, too."""
        (self.folder / "docker-compose.yml").write_text(json.dumps({"services": services, **more}, indent=1))

    def set(self, value: str) -> None:
        """Give the credential another value."""
        (self.folder / ".env").write_text(f"COMPOSE_PROJECT_NAME={self.name}\nPW={value}\n")

    def docker(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", *arguments],
            cwd=self.folder,
            env=clean_environment({"PWD": str(self.folder)}),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def compose(self, *arguments: str) -> str:
        """Run ``docker compose`` as a user in the folder would."""
        return self.docker("compose", *arguments)

    def up(self, *arguments: str) -> None:
        self.compose("up", "--detach", *arguments)

    def project(self, **given: Any) -> Project:
        return Project.load(DockerCli(), str(self.folder), **given)

    def containers(self, *services: str) -> list[Container]:
        return self.project().containers(services or None)

    def ids(self, *services: str) -> set[str]:
        return {one.id for one in self.containers(*services)}

    def values(self, *services: str) -> list[tuple[str, str, str]]:
        """Return service, status and value of every container."""
        return sorted((one.service, one.status, one.env.get("PW", "")) for one in self.containers(*services))

    def recreated_by_up(self) -> list[str]:
        """Run a plain ``docker compose up -d`` and return the ids that are new after it."""
        before = self.ids()
        self.up()
        return sorted(self.ids() - before)

    def remove(self) -> None:
        mine = f"label=com.docker.compose.project={self.name}"
        # A volume that was handed on from one container to the next is no anonymous one any more.
        each = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'
        containers = self.docker("ps", "--all", "--quiet", "--filter", mine).split()
        volumes = self.docker("inspect", "--format", each, *containers).split() if containers else []
        for listing, removal in (
            (("ps", "--all", "--quiet"), ("rm", "--force", "--volumes")),
            (("network", "ls", "--quiet"), ("network", "rm")),
            (("volume", "ls", "--quiet"), ("volume", "rm", "--force")),
        ):
            found = self.docker(*listing, "--filter", mine).split()
            if found:
                self.docker(*removal, *found)
        if volumes:
            self.docker("volume", "rm", "--force", *volumes)
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                os.unlink(path)
