# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import file_lock
from ansible_collections.chat4all.secrets.plugins.plugin_utils import store as store_module
from ansible_collections.chat4all.secrets.plugins.plugin_utils.store import Store

SECRETS = (("default", VaultSecret(b"vault password")),)
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


def test_nothing_changed_is_written_where_the_serial_has_to_rise(path):
    store = Store.open(path, SECRETS)
    store.change(put(current=SLOT))
    assert store.change(put(current=SLOT), beyond=7) == 8
    assert Store.open(path, SECRETS).serial == 8


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


FOREIGN = """\
# leading comment
---
smtp_password: 'p # x'  # keep
nothing: ~
old_words: [yes, 0777, 1_000, 12:30:45, 2026-01-01]
jinja: "{{ other }}"
raw: !unsafe '{{ raw }}'
inline: !vault |
          $ANSIBLE_VAULT;1.1;AES256
          3161
indented:
    - a   # x
    -   b: 1
folded: >-
  text that
  goes on

# list
flat:
# in the list
- a
base: &base {p: 1}
merged:
  <<: *base
  z: 1
"""
AFTER = "\n# the relay's\nrelay: x   # y\n\n# the end\n"


@pytest.mark.parametrize("end", ["", "\n", "# end\n"])
def test_what_others_keep_in_the_file_stays_to_the_letter(path, end):
    written(path, FOREIGN + end)
    store = Store.open(path, SECRETS)
    store.change(put(current=SLOT, previous=SLOT))
    ours = clear(path)[len(FOREIGN + end) :]
    assert clear(path).startswith(FOREIGN + end + "secrets_store:\n")
    written(path, AFTER + ours + AFTER.replace("relay", "relay2"))
    Store.open(path, SECRETS).change(lambda all: all["postgres"].pop("previous"))
    text = clear(path)
    assert text.startswith(AFTER + "secrets_store:\n") and text.endswith(AFTER.replace("relay", "relay2"))
    assert Store.open(path, SECRETS).entry("postgres") == {"current": SLOT}


@pytest.mark.parametrize("text", ["", "# only a comment", "---\n", "a: 1", "a: 1\r\nb: 2\r\n"])
def test_a_file_that_others_have_begun_is_gone_on_with(path, text):
    written(path, text)
    Store.open(path, SECRETS).change(put(current=SLOT))
    assert clear(path).startswith(text)
    assert Store.open(path, SECRETS).entry("postgres") == {"current": SLOT}


def test_comments_among_our_own_values_are_kept(path):
    Store.open(path, SECRETS).change(put(current=SLOT, previous=SLOT))
    text = clear(path).replace("  postgres:\n", "  # the main one\n  postgres:   # do not touch\n")
    written(path, text)
    Store.open(path, SECRETS).change(lambda all: all["postgres"].update(current={**SLOT, "user": "app_2"}))
    assert clear(path) == text.replace("serial: 1", "serial: 2").replace("app_1", "app_2", 1)


@pytest.mark.parametrize(
    "text",
    [
        "{a: 1}\n",
        "secrets_credentials: {b: &x {current: {}}}\nmine: *x\n",
        "mine: &x {}\nsecrets_credentials: {b: {current: *x}}\n",
        "a: 1\n...\n",
    ],
)
def test_a_change_that_would_harm_the_file_is_refused(path, text):
    written(path, text)
    with open(path, "rb") as stream:
        before = stream.read()
    with pytest.raises(SecretsError, match=path):
        Store.open(path, SECRETS).change(lambda all: (all.clear(), all.update(a={"current": SLOT})))
    with open(path, "rb") as stream:
        assert stream.read() == before


WORDS = ["", " ", "#", "yes", "no", "1:30", "0777", "1e5", "null", "~", "a: b", "- x", "{{ x }}", "%&*!|>@`", "'\"\\"]
ODD = ["line\nline\n", "\t\x07\x00", "\u2028\x85\ufeff", "\U0001f511", "x" * 5000, "word " * 2000]


@pytest.mark.parametrize("value", WORDS + ODD)
def test_every_value_comes_back_as_it_was_and_is_text_for_ansible_too(path, value):
    Store.open(path, SECRETS).change(put(current={**SLOT, "password": value}))
    store = Store.open(path, SECRETS)
    assert store.entry("postgres")["current"]["password"] == value
    store.change(put(pending={**SLOT, "password": value + "x"}))
    seen = yaml.safe_load(clear(path))["secrets_credentials"]["postgres"]
    assert (seen["current"]["password"], seen["pending"]["password"]) == (value, value + "x")


def test_values_as_ansible_hands_them_out_are_stored_as_plain_text(path):
    given = wrap_var({**SLOT, "imported": True, "port": 5432, "list": ["a"]})
    try:
        from ansible._internal._datatag._tags import Origin
    except ImportError:  # before ansible-core 2.19
        pass
    else:
        given = {key: Origin(description="x").tag(value) for key, value in given.items()}
    Store.open(path, SECRETS).change(put(current=given))
    found = Store.open(path, SECRETS).entry("postgres")["current"]
    assert found == {**SLOT, "imported": True, "port": 5432, "list": ["a"]}
    assert {type(value) for value in found.values()} == {str, bool, int, list}


@pytest.mark.parametrize("value", [object(), b"canary", ("canary", object())])
def test_what_a_store_cannot_hold_is_refused(path, value):
    store = Store.open(path, SECRETS)
    with pytest.raises(SecretsError) as caught:
        store.change(put(current={**SLOT, "password": value}))
    assert "canary" not in str(caught.value) and not os.path.exists(path)


def test_what_was_read_cannot_be_changed_from_outside(path):
    store = Store.open(path, SECRETS)
    store.change(put(current=SLOT))
    store.entry("postgres")["current"].clear()
    kept = []
    with pytest.raises(ZeroDivisionError):
        store.change(lambda all: (kept.append(all), all.clear(), 1 / 0))
    assert store.entry("postgres")["current"] == SLOT and store.serial == 1


def test_a_store_stays_with_the_password_that_opens_it(path):
    # Another one may be given first, or under the label that the file has.
    mine, other = VaultSecret(b"mine"), VaultSecret(b"another")
    for label, given in (
        (None, [("dev", other), ("prod", mine)]),
        ("prod", [("prod", other), ("default", mine)]),
    ):
        written(path, "a: 1\n", secrets=[("x", mine)], vault_id=label)
        Store.open(path, given, vault_id="dev").change(put(current=SLOT))
        assert SLOT["password"] in clear(path, [("x", mine)])
        with open(path, encoding="ascii") as stream:
            assert stream.readline() == ("$ANSIBLE_VAULT;1.2;AES256;prod\n" if label else "$ANSIBLE_VAULT;1.1;AES256\n")


def test_a_vault_id_without_a_password_is_named(path):
    with pytest.raises(SecretsError, match="no vault password with the vault id 'prod' was given"):
        Store.open(path, SECRETS, vault_id="prod")


@pytest.mark.parametrize("data", [b";1.1;AES256\n", b";1.1;AES256\nzz\n", b"\n"])
def test_a_torn_file_is_said_to_be_damaged(path, data):
    with open(path, "wb") as stream:
        stream.write(b"$ANSIBLE_VAULT" + data)
    with pytest.raises(SecretsError, match="is damaged; restore it from a copy"):
        Store.open(path, SECRETS)


def test_a_missing_library_is_one_line(path, monkeypatch):
    monkeypatch.setattr(store_module, "YAML", None)
    with pytest.raises(SecretsError, match=r"pip install ruamel\.yaml"):
        Store.open(path, SECRETS)


def test_a_store_elsewhere_is_read_and_written_by_its_own_functions(path):
    sent = []
    elsewhere = {"reader": lambda: sent[-1][0] if sent else None, "writer": lambda *given: sent.append(given)}
    for turn in range(2):
        Store.open(path, SECRETS, **elsewhere).change(put(current={**SLOT, "turn": turn}))
    (first, expected), (second, expected_then) = sent
    assert (expected, expected_then) == (None, hashlib.sha256(first).hexdigest())
    assert second.startswith(b"$ANSIBLE_VAULT;") and not os.path.exists(path)


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
        ("a: canary\na: canary\n", "line 2 has a key that is there twice"),
        ("a: 1\n---\nb: 1\n", "line 2 is not YAML"),
        ("secrets_store: canary\n", "secrets_store must be a mapping"),
        ("secrets_store: {id: x, serial: one, fingerprint_key: canary}\n", "lacks a valid"),
        ("secrets_credentials: {a: canary}\n", "secrets_credentials.a must be a mapping"),
        ("secrets_credentials: {a: {current: canary}}\n", "secrets_credentials.a.current must be a mapping"),
        (
            "secrets_credentials: {a: {current: {user: u, password: 12345}}}\n",
            "a.current.password must be a string; put it in",
        ),
        ("secrets_credentials: {a: {current: {user: u}}}\n", "a.current.password must be a string"),
        (
            "secrets_credentials: {a: {current: {user: u, password: p, created: yesterday}}}\n",
            "a.current.created must be a date",
        ),
        ("secrets_credentials: {a: {role: 5}}\n", "a.role must be a string"),
        ("secrets_credentials: {a: {current: {created: 2026-01-01}}}\n", "put it in quotes"),
        ("secrets_store: {id: x}\n", "lacks a valid id, serial or fingerprint_key"),
    ],
)
def test_a_damaged_store_is_named_in_one_line(path, text, words):
    written(path, text)
    with pytest.raises(SecretsError, match=words) as caught:
        Store.open(path, SECRETS)
    assert path in str(caught.value) and "\n" not in str(caught.value)
    assert "canary" not in str(caught.value) and "12345" not in str(caught.value)


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


def test_nobody_writes_while_another_one_does(path, monkeypatch):
    monkeypatch.setattr(store_module, "file_lock", lambda *given: file_lock(*given, wait=0))
    store = Store.open(path, SECRETS)
    store.change(put(current=SLOT))
    with (
        file_lock(os.path.join(os.path.dirname(path), ".store.yml.lock"), "process 1"),
        pytest.raises(SecretsError, match="process 1 is working there"),
    ):
        store.change(put(pending=SLOT))
    assert "pending" not in Store.open(path, SECRETS).entry("postgres")


def test_two_processes_that_change_in_turns_lose_nothing(path):
    """Who comes late gets the line and runs again; in the end every change is there."""
    Store.open(path, SECRETS).change(put(current=SLOT))
    code = (
        "import sys\nfrom ansible.parsing.vault import VaultSecret\n"
        "from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError\n"
        "from ansible_collections.chat4all.secrets.plugins.plugin_utils.store import Store\n"
        "done = late = 0\n"
        "while done < 4:\n"
        "    store = Store.open(sys.argv[1], [('default', VaultSecret(b'vault password'))])\n"
        "    try:\n"
        "        store.change(lambda all: all.update({f'{sys.argv[2]}{done}': {'current': {'user': 'u', 'password': 'x'}}}))\n"
        "        done += 1\n"
        "    except SecretsError as error:\n"
        "        assert 'somebody else has changed it meanwhile' in str(error), error\n"
        "        late += 1\n"
        "print(late)\n"
    )
    commands = [[sys.executable, "-c", code, path, name] for name in "ab"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    late = [int(child.communicate(timeout=60)[0]) for child in both]
    assert [child.returncode for child in both] == [0, 0]
    store = Store.open(path, SECRETS)
    assert set(store.names()) == {"postgres", *(f"{name}{turn}" for name in "ab" for turn in range(4))}
    assert store.serial == 9, late


def test_a_change_that_is_killed_leaves_the_old_store_or_the_new_one(path):
    store = Store.open(path, SECRETS)
    store.change(put(current=SLOT))
    code = (
        "import sys\nfrom ansible.parsing.vault import VaultSecret\n"
        "from ansible_collections.chat4all.secrets.plugins.plugin_utils.store import Store\n"
        "store = Store.open(sys.argv[1], [('default', VaultSecret(b'vault password'))])\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    store.change(lambda all: all['postgres'].update(turn=store.serial, filler='x' * 2000))\n"
    )
    chance = random.Random(7)
    for _turn in range(3):
        child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait()
        found = Store.open(path, SECRETS)
        assert found.entry("postgres").get("turn", 0) in (0, found.serial - 1)
        assert found.entry("postgres")["current"] == SLOT
