# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the collection's playbooks against a stack, as its user would: an inventory, a vault password file, a command."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

ROOT = Path(__file__).resolve().parents[2]


class Plays:
    """The playbooks for one deployment. ``folder`` has inventory, store, vault password; ``project_dir`` the stack."""

    def __init__(self, folder: Path, project_dir: Path, **variables: Any) -> None:
        self.folder = folder
        self.project_dir = project_dir
        folder.mkdir(parents=True, exist_ok=True)
        self.password_file = folder / ".vault-password"
        if not self.password_file.exists():
            self.password_file.touch(mode=0o600)
            self.password_file.write_text(secrets.token_urlsafe(24) + "\n")
        self.variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "secrets_project_dir": str(project_dir),
            "secrets_catalog": {"postgres": {}},
            "secrets_services": {"migrate": {"rerun": "safe"}},
            **variables,
        }
        self.write_inventory()

    def write_inventory(self) -> None:
        """Write the inventory; call it again after ``variables`` was changed."""
        hosts = {"production": {"hosts": {"db1": self.variables}}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(hosts))

    def command(self, playbook: str, *arguments: str) -> list[str]:
        """Return the command line that a user would type."""
        return [
            str(Path(sys.executable).with_name("ansible-playbook")),
            str(ROOT / "playbooks" / playbook),
            "-i",
            str(self.folder),
            *arguments,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a run: the repository's own configuration and this deployment's vault password."""
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self.password_file),
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONWARNINGS": "ignore",
        }

    def run(
        self, playbook: str, *arguments: str, through: Sequence[str] = (), timeout: float = 400, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook to its end, ``through`` another command; output and errors together in ``stdout``."""
        return subprocess.run(
            [*through, *self.command(playbook, *arguments)],
            cwd=ROOT,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def rotate(self, *arguments: str) -> str:
        """Rotate every database credential, and see the run succeed; returns what it says, in one line."""
        done = self.run("rotate-db.yml", *arguments)
        assert done.returncode == 0, done.stdout
        return " ".join(done.stdout.split())

    @property
    def store_path(self) -> Path:
        return self.folder / ".secrets-store.yml"

    def store(self, data: bytes | None = None) -> dict[str, Any]:
        """Return the decrypted store, or another version of it."""
        secret = VaultSecret(self.password_file.read_bytes().strip())
        return yaml.safe_load(VaultLib([("default", secret)]).decrypt(data or self.store_path.read_bytes()))

    def vault(self, text: str) -> bytes:
        """Encrypt a text with this deployment's vault password."""
        return VaultLib().encrypt(text, secret=VaultSecret(self.password_file.read_bytes().strip()))

    @staticmethod
    def values(store: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield every secret value of a store, with a label."""
        yield "fingerprint key", store["secrets_store"]["fingerprint_key"]
        yield from _passwords("", store["secrets_credentials"])

    def secrets(self) -> set[str]:
        """Return every secret value that the store holds now, and the vault password."""
        return {self.password_file.read_text().strip(), *(value for _label, value in self.values(self.store()))}


def _passwords(label: str, found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every value that is called a password, whatever slot it is in."""
    for key, value in found.items():
        where = f"{label}, {key}" if label else key
        if isinstance(value, dict):
            yield from _passwords(where, value)
        elif value and "password" in key.lower():
            yield where, value
