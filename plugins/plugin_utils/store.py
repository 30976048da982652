# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store: one file, encrypted with Ansible Vault as a whole, read and written in memory on the controller."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import hmac
import io
import os
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, is_encrypted, match_encrypt_secret, parse_vaulttext_envelope
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write, read_plain_file
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

HEAD = "secrets_store"
BODY = "secrets_credentials"

Reader = Callable[[], "bytes | None"]
Writer = Callable[[bytes, "str | None"], None]


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _plain(node: Any) -> Any:
    """Return plain Python data, so that nobody outside changes the document by accident."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return str(node) if isinstance(node, str) else node


class LocalFile:
    """The store's file on the controller."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> bytes | None:
        return read_plain_file(self.path)

    def write(self, data: bytes, expected_sha256: str | None) -> None:
        """Replace the content if it is still the expected one (``None``: no file)."""
        with self._locked():
            present = self.read()
            if (hashlib.sha256(present).hexdigest() if present is not None else None) != expected_sha256:
                raise SecretsError(f"{self.path}: somebody else has changed it meanwhile; run the same command again")
            atomic_write(self.path, data)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        folder, name = os.path.split(self.path)
        # A dot in front: a folder inventory would otherwise read the lock as an inventory.
        lock = os.path.join(folder, f".{name.lstrip('.')}.lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SecretsError(f"{lock}: {error.strerror}") from None
        with os.fdopen(descriptor):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield


class Store:
    """The credentials of one deployment in three labelled slots (``current``, ``pending``, ``previous``).

    ``secrets`` are the vault secrets of the running play. Raises :class:`SecretsError` without them, with the wrong ones, for a
    file in clear, and when somebody else has changed the file since it was read.
    """

    def __init__(self, path: str, vault: VaultLib, vault_id: str | None, reader: Reader, writer: Writer) -> None:
        self.path = path
        self._vault = vault
        self._vault_id = vault_id
        self._reader, self._writer = reader, writer
        self._load()

    @classmethod
    def open(
        cls,
        path: str,
        secrets: Sequence[tuple[str, Any]] | None,
        *,
        vault_id: str | None = None,
        reader: Reader | None = None,
        writer: Writer | None = None,
    ) -> Store:
        """Open the store at ``path``; a file that does not exist yet is made by the first change."""
        usable = [(label, secret) for label, secret in secrets or [] if getattr(secret, "bytes", None)]
        if not usable:
            raise SecretsError(
                f"{path}: no vault password was given; export ANSIBLE_VAULT_PASSWORD_FILE=FILE, or add --vault-password-file FILE"
            )
        local = LocalFile(path)
        return cls(path, VaultLib(usable), vault_id, reader or local.read, writer or local.write)

    @property
    def id(self) -> str:
        """Which store this is."""
        return str(self._document[HEAD]["id"])

    @property
    def serial(self) -> int:
        """Grows by one with every change; 0 where nothing was written yet."""
        return int(self._document[HEAD]["serial"])

    @property
    def fingerprint_key(self) -> bytes:
        """The key of the fingerprints by which values are compared."""
        return bytes.fromhex(str(self._document[HEAD]["fingerprint_key"]))

    def fingerprint(self, value: str) -> str:
        """Return a keyed fingerprint (16 hexadecimal digits): equal for equal values, and says nothing of them."""
        return hmac.new(self.fingerprint_key, value.encode(), hashlib.sha256).hexdigest()[:16]

    def names(self) -> list[str]:
        """Return the names of the credentials."""
        return list(self._document[BODY])

    def entry(self, name: str) -> dict[str, Any]:
        """Return a copy of what is stored of a credential."""
        return _plain(self._document[BODY][name])

    def change(self, mutator: Callable[[dict[str, Any]], None]) -> int:
        """Let ``mutator`` change the credentials, and write them durably; returns the serial.

        Nothing is written when nothing changed, or when somebody else has changed the file since it was read.
        """
        changed = copy.deepcopy(self._document)
        mutator(changed[BODY])
        if _plain(changed) == _plain(self._document):
            return self.serial
        changed[HEAD]["serial"] = self.serial + 1
        text = io.StringIO()
        _yaml().dump(changed, text)
        data = self._encrypt(text.getvalue().encode())
        self._writer(data, self._sha256)
        self._document, self._sha256 = changed, hashlib.sha256(data).hexdigest()
        return self.serial

    def _load(self) -> None:
        data = self._reader()
        self._sha256 = hashlib.sha256(data).hexdigest() if data is not None else None
        self._label: str | None = None
        document = self._parse(self._decrypt(data)) if data is not None else CommentedMap()
        head = document.setdefault(HEAD, CommentedMap())
        if not head:
            head.update({"id": str(uuid.uuid4()), "serial": 0, "fingerprint_key": secrets.token_hex(32)})
        if not isinstance(document.setdefault(BODY, CommentedMap()), dict):
            raise SecretsError(f"{self.path}: {BODY} must be a mapping")
        if not {"id", "serial", "fingerprint_key"} <= set(head):
            raise SecretsError(f"{self.path}: {HEAD} lacks id, serial or fingerprint_key; restore it from a copy")
        self._document = document

    def _decrypt(self, data: bytes) -> bytes:
        if not is_encrypted(data):
            raise SecretsError(f"{self.path}: is not encrypted; ansible-vault encrypt {self.path}")
        try:
            self._label = parse_vaulttext_envelope(data)[3]
            return self._vault.decrypt(data)
        except AnsibleError:
            raise SecretsError(f"{self.path}: the vault password does not open it; is it this deployment's?") from None

    def _encrypt(self, data: bytes) -> bytes:
        label = self._label or self._vault_id
        try:
            label, secret = match_encrypt_secret(self._vault.secrets, encrypt_vault_id=label)
        except AnsibleError:
            # A file that was written without a label is opened by any of the play's secrets.
            if label not in (None, "default"):
                raise SecretsError(f"{self.path}: no vault password with the vault id {label!r} was given") from None
            label, secret = self._vault.secrets[0]
        return self._vault.encrypt(data, secret=secret, vault_id=None if label == "default" else label)

    def _parse(self, text: bytes) -> CommentedMap:
        try:
            document = _yaml().load(text)
        except YAMLError as error:
            line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
            raise SecretsError(f"{self.path}: line {line} is not YAML; ansible-vault edit {self.path}") from None
        if document is None:
            return CommentedMap()
        if not isinstance(document, CommentedMap):
            raise SecretsError(f"{self.path}: must be a mapping; ansible-vault edit {self.path}")
        return document
