# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the ``docker`` command line with a clean environment; secrets travel by standard input alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker

# A variable of the shell beats the one in .env, so Compose gets only what it needs to find the engine.
KEPT_ENVIRONMENT = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a ``docker`` process; ``extra`` must not hold a secret."""
    environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    environment.update(extra or {})
    return environment


@dataclass(frozen=True)
class Completed:
    """The outcome of one command; both texts are as the command wrote them, not masked."""

    returncode: int
    stdout: str
    stderr: str


class DockerCli:
    """Runs ``docker ...``; what its errors say is masked with ``masker``.

    Raises :class:`SecretsError` where the client is missing, the command fails or takes too long.
    """

    def __init__(self, masker: Masker | None = None, executable: str = "docker") -> None:
        self.masker = masker or Masker()
        self.executable = executable

    def run(
        self,
        *arguments: str,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 120,
        check: bool = True,
    ) -> Completed:
        """Run one command to its end. ``timeout`` is in seconds."""
        try:
            done = subprocess.run(
                [self.executable, *arguments],
                input=stdin if stdin is not None else "",
                env=clean_environment(environment),
                cwd=cwd,
                timeout=timeout,
                check=False,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except FileNotFoundError:
            raise SecretsError(f"{self.executable}: command not found; install the Docker client") from None
        except subprocess.TimeoutExpired:
            raise SecretsError(f"{self._name(arguments)} did not end within {timeout:g} s") from None
        if check and done.returncode != 0:
            raise SecretsError(f"{self._name(arguments)} failed: {self.last_line(done.stderr or done.stdout)}")
        return Completed(done.returncode, done.stdout, done.stderr)

    def last_line(self, text: str) -> str:
        """Return the last line of ``text`` that says something, as it may be shown: the one with the reason."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return self.masker.shown(lines[-1]) if lines else "no reason given"

    def _name(self, arguments: tuple[str, ...]) -> str:
        # Only the verb: arguments could hold names that say more than is needed in an error.
        words = [word for word in arguments if not word.startswith("-")]
        verb = words[:2] if words[:1] == ["compose"] else words[:1]
        return " ".join([self.executable, *verb])
