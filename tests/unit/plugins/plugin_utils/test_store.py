# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils.store import Store

SECRETS = [("default", VaultSecret(b"vault password"))]
SLOT = {"user": "app_1", "password": "canary-value-0123456789", "created": "2026-01-01T00:00:00+00:00"}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store.yml")


def put(name="postgres", **slots):
    def mutate(credentials):
        credentials.setdefault(name, {}).update(slots)

    return mutate


def written(path: str, text: str, secrets=SECRETS, vault_id=None) -> None:
    """Write a store as a person with ansible-vault does."""
    with open(path, "wb") as stream:
        stream.write(VaultLib(secrets).encrypt(text.encode(), secret=secrets[0][1], vault_id=vault_id))


def clear(path: str, secrets=SECRETS) -> str:
    with open(path, "rb") as stream:
        return VaultLib(secrets).decrypt(stream.read()).decode()


def test_what_was_changed_is_read_again(path):
    store = Store.open(path, SECRETS)
    assert (store.serial, store.names()) == (0, [])
    assert store.change(put(current=SLOT)) == 1
    again = Store.open(path, SECRETS)
    assert again.entry("postgres")["current"] == SLOT
    assert (again.id, again.serial) == (store.id, 1)
    assert again.fingerprint("x") == store.fingerprint("x") != store.fingerprint("y")


def test_no_value_is_in_clear_on_the_disk(path, tmp_path):
    Store.open(path, SECRETS).change(put(current=SLOT))
    assert os.stat(path).st_mode & 0o777 == 0o600
    for file in tmp_path.iterdir():
        assert SLOT["password"].encode() not in file.read_bytes()


def test_nothing_changed_is_nothing_written(path):
    store = Store.open(path, SECRETS)
    store.change(put(current=SLOT))
    before = os.stat(path).st_mtime_ns
    assert store.change(put(current=SLOT)) == 1
    assert os.stat(path).st_mtime_ns == before


def test_comments_and_foreign_variables_are_kept(path):
    written(path, "# mine\nsmtp_password: 'p # x'  # keep\nother: !unsafe '{{ raw }}'\n")
    Store.open(path, SECRETS).change(put(current=SLOT))
    text = clear(path)
    assert text.startswith("# mine\nsmtp_password: 'p # x'  # keep\nother: !unsafe '{{ raw }}'\n")
    assert SLOT["password"] in text


def test_the_vault_id_of_a_file_is_kept(path):
    secrets = [("default", VaultSecret(b"one")), ("prod", VaultSecret(b"two"))]
    written(path, "a: 1\n", secrets=secrets[1:], vault_id="prod")
    Store.open(path, secrets).change(put(current=SLOT))
    with open(path, encoding="ascii") as stream:
        assert stream.readline() == "$ANSIBLE_VAULT;1.2;AES256;prod\n"
    assert SLOT["password"] in clear(path, secrets[1:])


def test_a_new_store_gets_the_vault_id_that_was_asked_for(path):
    secrets = [("default", VaultSecret(b"one")), ("prod", VaultSecret(b"two"))]
    Store.open(path, secrets, vault_id="prod").change(put(current=SLOT))
    assert SLOT["password"] in clear(path, secrets[1:])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line 1 is not YAML"),
        ("- a\n", "must be a mapping"),
        ("secrets_store: {id: x}\n", "lacks id, serial or fingerprint_key"),
    ],
)
def test_a_damaged_store_is_named_in_one_line(path, text, words):
    written(path, text)
    with pytest.raises(SecretsError, match=words) as caught:
        Store.open(path, SECRETS)
    assert path in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("secrets", [None, [], [("default", VaultSecret(b""))]])
def test_no_vault_password(path, secrets):
    with pytest.raises(SecretsError, match="no vault password was given"):
        Store.open(path, secrets)


def test_a_wrong_vault_password(path):
    Store.open(path, SECRETS).change(put(current=SLOT))
    with pytest.raises(SecretsError, match="the vault password does not open it"):
        Store.open(path, [("default", VaultSecret(b"another"))])


def test_a_store_in_clear_is_refused(path):
    with open(path, "w", encoding="ascii") as stream:
        stream.write("secrets_credentials: {}\n")
    with pytest.raises(SecretsError, match="is not encrypted; ansible-vault encrypt"):
        Store.open(path, SECRETS)


def test_a_link_is_refused(path, tmp_path):
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(SecretsError, match="is a link"):
        Store.open(path, SECRETS)


def test_two_who_change_at_once_lose_nothing(path):
    Store.open(path, SECRETS).change(put(current=SLOT))
    first, second = Store.open(path, SECRETS), Store.open(path, SECRETS)
    first.change(put(pending=SLOT))
    with pytest.raises(SecretsError, match="somebody else has changed it meanwhile"):
        second.change(put(previous=SLOT))
    assert set(Store.open(path, SECRETS).entry("postgres")) == {"current", "pending"}


def test_a_change_that_is_killed_leaves_the_old_store_or_the_new_one(path):
    store = Store.open(path, SECRETS)
    store.change(put(current=SLOT))
    code = (
        "import sys\nfrom ansible.parsing.vault import VaultSecret\n"
        "from ansible_collections.chat4all.secrets.plugins.plugin_utils.store import Store\n"
        "store = Store.open(sys.argv[1], [('default', VaultSecret(b'vault password'))])\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    store.change(lambda all: all['postgres'].update(turn=store.serial, filler='x' * 200000))\n"
    )
    chance = random.Random(7)
    for _turn in range(6):
        child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait()
        found = Store.open(path, SECRETS)
        assert found.entry("postgres").get("turn", 0) in (0, found.serial - 1)
        assert found.entry("postgres")["current"] == SLOT
