# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store: one file, encrypted with Ansible Vault as a whole, read and written in memory on the controller."""

from __future__ import annotations

import datetime
import hashlib
import io
import os
import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.parsing.vault import (
    AnsibleVaultFormatError,
    VaultLib,
    is_encrypted,
    match_encrypt_secret,
    parse_vaulttext_envelope,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write, file_lock, read_plain_file
from ansible_collections.chat4all.secrets.plugins.module_utils.fingerprints import fingerprint

try:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString
except ImportError:
    YAML = None

HEAD = "secrets_store"
BODY = "secrets_credentials"

Reader = Callable[[], "bytes | None"]
Writer = Callable[[bytes, "str | None"], None]


def checksum(data: bytes | None) -> str | None:
    """Return by what a writer knows the content that it may replace; ``None`` for no file."""
    return None if data is None else hashlib.sha256(data).hexdigest()


class LocalFile:
    """The store's file on the controller."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> bytes | None:
        return read_plain_file(self.path)

    def write(self, data: bytes, expected_sha256: str | None) -> None:
        """Replace the content if it is still the expected one (``None``: no file)."""
        folder, name = os.path.split(self.path)
        # A dot in front: a folder inventory would otherwise read the lock as an inventory.
        lock = os.path.join(folder, f".{name.lstrip('.')}.lock")
        with file_lock(lock, f"process {os.getpid()}"):
            if checksum(self.read()) != expected_sha256:
                raise SecretsError(f"{self.path}: somebody else has changed it meanwhile; run the same command again")
            atomic_write(self.path, data)


class Document:
    """The store's text: two blocks of ours at its top level, and what others keep there, untouched to the letter."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        top = self._parse(text)
        if top is None:
            top = {}
        if not isinstance(top, dict):
            raise SecretsError(f"{path}: must be a mapping; ansible-vault edit {path}")
        if top and top.fa.flow_style():
            raise SecretsError(f"{path}: must be written line by line, not in braces; ansible-vault edit {path}")
        self.head: dict[str, Any] = self._mapping(top, HEAD)
        self.body: dict[str, Any] = self._mapping(top, BODY)
        if self.head and not _is_head(self.head):
            raise SecretsError(f"{path}: {HEAD} lacks a valid id, serial or fingerprint_key; restore it from a copy")
        for name, entry in self.body.items():
            self._check_entry(f"{path}: {BODY}.{name}", entry)

    def replaced(self, head: dict[str, Any], body: dict[str, Any]) -> Document:
        """Return the document with other content in our two blocks; comments in them stay where their keys stay."""
        text = self.text
        try:
            for key, content in ((HEAD, head), (BODY, body)):
                begin, end = self._block(text, key)
                block = self._parse(text[begin:end]) or CommentedMap({key: CommentedMap()})
                _merge(block, {key: content})
                written = io.StringIO()
                _yaml().dump(block, written)
                gap = "\n" if begin and text[begin - 1] != "\n" else ""
                text = text[:begin] + gap + written.getvalue() + text[end:]
            document = Document(self.path, text)
            is_whole = (document.head, document.body) == (head, body)
        except (SecretsError, YAMLError):
            is_whole = False
        # The file is the only copy of its values: what cannot be read back is never written.
        if not is_whole:
            raise SecretsError(
                f"{self.path}: cannot be changed without harm to what else is in it (anchors, several documents); "
                f"ansible-vault edit {self.path}"
            )
        return document

    @staticmethod
    def _block(text: str, key: str) -> tuple[int, int]:
        """Return where the block of a top-level key begins and ends: at the end of the text where there is none."""
        root = _yaml().compose(text)
        pairs = root.value if root is not None and isinstance(root.value, list) else []
        begins = [(name.value, name.start_mark.index) for name, _value in pairs]
        for place, (name, begin) in enumerate(begins):
            if name == key:
                end = begins[place + 1][1] if place + 1 < len(begins) else len(text)
                lines = text[begin:end].splitlines(keepends=True)
                # Comments above the next key, and the end of the document, are not ours.
                while lines and (not lines[-1].strip() or lines[-1].startswith(("#", "..."))):
                    end -= len(lines.pop())
                return begin, end
        return len(text), len(text)

    def _parse(self, text: str) -> Any:
        try:
            return _yaml().load(text)
        except YAMLError as error:
            # What ruamel says quotes the line.
            line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
            what = "has a key that is there twice" if type(error).__name__ == "DuplicateKeyError" else "is not YAML"
            raise SecretsError(f"{self.path}: line {line} {what}; ansible-vault edit {self.path}") from None

    def _mapping(self, top: dict[str, Any], key: str) -> dict[str, Any]:
        content = _plain(top.get(key) or {}, f"{self.path}: {key}")
        if not isinstance(content, dict):
            raise SecretsError(f"{self.path}: {key} must be a mapping; ansible-vault edit {self.path}")
        return content

    @staticmethod
    def _check_entry(where: str, entry: Any) -> None:
        if not isinstance(entry, dict):
            raise SecretsError(f"{where} must be a mapping")
        if not isinstance(entry.get("role", ""), str):
            raise SecretsError(f"{where}.role must be a string; put it in quotes")
        for slot in ("current", "pending", "previous", "admin", "next", "spare"):
            value = entry.get(slot) or {}
            if not isinstance(value, dict):
                raise SecretsError(f"{where}.{slot} must be a mapping")
            for part in ("user", "password"):
                if not isinstance(value.get(part, ""), str) or (value and part not in value):
                    raise SecretsError(f"{where}.{slot}.{part} must be a string; put it in quotes")
            for part in ("created", "revoke_after", "introduced", "replaced"):
                if part in value and not _is_date(value[part]):
                    raise SecretsError(f"{where}.{slot}.{part} must be a date such as 2026-01-01T03:10:03+00:00")


def _is_date(value: Any) -> bool:
    try:
        return datetime.datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_head(head: dict[str, Any]) -> bool:
    key, serial = str(head.get("fingerprint_key")), head.get("serial")
    is_key = len(key) == 64 and set(key) <= set("0123456789abcdef")
    return bool(head.get("id")) and isinstance(serial, int) and not isinstance(serial, bool) and is_key


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    return yaml


def _plain(node: Any, where: str) -> Any:
    """Return plain Python data: neither YAML's types nor Ansible's tagged ones."""
    if isinstance(node, dict):
        return {str.__str__(str(key)): _plain(value, f"{where}.{key}") for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value, where) for value in node]
    if isinstance(node, str):
        return str.__str__(node)
    if node is None or isinstance(node, bool):
        return node
    for kind in (int, float):
        if isinstance(node, kind):
            return kind(node)
    raise SecretsError(f"{where}: is a {type(node).__name__}, which a store cannot hold; put it in quotes")


def _merge(node: CommentedMap, content: dict[str, Any]) -> None:
    """Bring a mapping in line with plain content, and leave alone what is in line: it may have comments."""
    for key in [key for key in node if key not in content]:
        del node[key]
    for key, value in content.items():
        if isinstance(value, dict) and isinstance(node.get(key), CommentedMap):
            _merge(node[key], value)
        elif key not in node or repr(_plain(node[key], key)) != repr(value):
            node[key] = _quoted(value)


def _quoted(value: Any) -> Any:
    # YAML 1.1, which Ansible reads, takes words such as no and 1:30 for something else than text.
    if isinstance(value, str):
        return DoubleQuotedScalarString(value)
    if isinstance(value, dict):
        return {key: _quoted(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_quoted(part) for part in value]
    return value


class Store:
    """The credentials of one deployment in three labelled slots (``current``, ``pending``, ``previous``).

    ``secrets`` are the vault secrets of the running play. Raises :class:`SecretsError` without them, with the wrong
    ones, for a file in clear, and when somebody else has changed the file since it was read.
    """

    def __init__(self, path: str, vault: VaultLib, vault_id: str | None, reader: Reader, writer: Writer) -> None:
        self.path = path
        self._vault = vault
        self._writer = writer
        data = reader()
        self._sha256 = checksum(data)
        if data is None:
            self._label, self._secret = self._choose(vault_id)
            self._document = Document(path, "")
        else:
            self._label, self._secret, text = self._decrypt(data)
            self._document = Document(path, text)
        # One that is new, in a new file or in one that others have begun, has its identity before it is written.
        self._head = self._document.head or {
            "id": str(uuid.uuid4()),
            "serial": 0,
            "fingerprint_key": secrets.token_hex(32),
        }

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
        """Open the store at ``path``; a file that does not exist yet is made by the first change.

        ``vault_id`` is the one that a new file is encrypted with; an existing file keeps label and password.
        """
        if YAML is None:
            raise SecretsError("ruamel.yaml is missing on the controller; pip install ruamel.yaml beside ansible-core")
        usable = [(label, secret) for label, secret in secrets or [] if getattr(secret, "bytes", None)]
        if not usable:
            raise SecretsError(
                f"{path}: no vault password was given; export ANSIBLE_VAULT_PASSWORD_FILE=FILE, "
                "or add --vault-password-file FILE"
            )
        local = LocalFile(path)
        return cls(path, VaultLib(usable), vault_id, reader or local.read, writer or local.write)

    @property
    def id(self) -> str:
        """Which store this is."""
        return str(self._head["id"])

    @property
    def serial(self) -> int:
        """Grows by one with every change; 0 where nothing was written yet."""
        return self._head["serial"]

    @property
    def fingerprint_key(self) -> bytes:
        """The key of the fingerprints by which values are compared."""
        return bytes.fromhex(str(self._head["fingerprint_key"]))

    def fingerprint(self, value: str) -> str:
        """Return a keyed fingerprint (16 hexadecimal digits): equal for equal values, and says nothing of them."""
        return fingerprint(self.fingerprint_key, value)

    def names(self) -> list[str]:
        """Return the names of the credentials."""
        return list(self._document.body)

    def entry(self, name: str) -> dict[str, Any]:
        """Return a copy of what is stored of a credential."""
        return _plain(self._document.body[name], name)

    def change(self, mutator: Callable[[dict[str, Any]], None], beyond: int = 0) -> int:
        """Let ``mutator`` change the credentials, and write them durably; returns the serial, higher than ``beyond``.

        Nothing is written when nothing changed and the serial is high enough, or when somebody else has changed the file
        since it was read.
        """
        body = _plain(self._document.body, BODY)
        mutator(body)
        body = _plain(body, BODY)
        if body == self._document.body and self.serial >= beyond:
            return self.serial
        head = {**self._head, "serial": max(self.serial, beyond) + 1}
        document = self._document.replaced(head, body)
        data = self._vault.encrypt(document.text.encode(), secret=self._secret, vault_id=self._label)
        self._writer(data, self._sha256)
        self._document, self._head, self._sha256 = document, head, checksum(data)
        return self.serial

    def _decrypt(self, data: bytes) -> tuple[str | None, Any, str]:
        if not is_encrypted(data):
            raise SecretsError(f"{self.path}: is not encrypted; ansible-vault encrypt {self.path}")
        try:
            label = parse_vaulttext_envelope(data)[3]
            # The one that opens it, not the first one of that name: whoever reads it today must be able to tomorrow.
            text, _id, secret = self._vault.decrypt_and_get_vault_id(data)
            return _label(label), secret, text.decode()
        except AnsibleVaultFormatError:
            raise SecretsError(f"{self.path}: is damaged; restore it from a copy") from None
        except AnsibleError:
            raise SecretsError(
                f"{self.path}: the vault password does not open it; is it this deployment's?", locked=True
            ) from None
        except UnicodeDecodeError:
            raise SecretsError(f"{self.path}: is not UTF-8 text; ansible-vault edit {self.path}") from None

    def _choose(self, vault_id: str | None) -> tuple[str | None, Any]:
        wanted = vault_id or constants.DEFAULT_VAULT_ENCRYPT_IDENTITY
        try:
            label, secret = match_encrypt_secret(self._vault.secrets, encrypt_vault_id=wanted)
        except AnsibleError:
            raise SecretsError(f"{self.path}: no vault password with the vault id {wanted!r} was given") from None
        return _label(label), secret


def _label(vault_id: str | None) -> str | None:
    # What Ansible calls the password without a name is not written into the file.
    return None if vault_id == constants.DEFAULT_VAULT_IDENTITY else vault_id
