# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""API tokens of connectors that work: a wrong one is not published, a right one is rolled out, the old one is seen dead."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import yaml
from outcome import containers, left_to_do
from plays import Plays

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platforms"))

from connectors import BOT, Connectors, new_token

VARIABLES = {
    "telegram": "TELEGRAM_BOT_TOKEN",
    "whatsapp": "WHATSAPP_API_TOKEN",
    "telegram-webhook": "TELEGRAM_WEBHOOK_SECRET",
    "whatsapp-webhook": "WHATSAPP_WEBHOOK_VERIFY_TOKEN",
}


@pytest.fixture(scope="module")
def stack():
    with Connectors("test-tokens") as running:
        yield running


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    plays = Plays(
        tmp_path_factory.mktemp("inventory"),
        stack.directory,
        secrets_catalog=stack.catalog(),
        secrets_services={},
        rotate_rollout={"quiet": 0.3, "settle": 0.3, "timeout": 30},
    )
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    return plays


@pytest.fixture
def bring(plays):
    """A way to bring a token: returns the arguments of the play."""

    def bring(**tokens):
        path = plays.folder / ".new.yml"
        path.write_bytes(plays.vault(yaml.safe_dump({"secrets_new_values": tokens})))
        return ("-e", f"@{path}")

    return bring


def environment(stack, service) -> dict[str, str]:
    [one] = [one for one in containers(stack) if one["Config"]["Labels"]["com.docker.compose.service"] == service]
    return dict(pair.split("=", 1) for pair in one["Config"]["Env"])


def everywhere(stack, plays, name) -> str:
    """Return the value that store, ``.env`` and container agree on."""
    variable = VARIABLES[name]
    deployed = environment(stack, f"{name.partition('-')[0]}-connector")[variable]
    assert plays.store()["secrets_credentials"][name]["current"]["password"] == stack.env()[variable] == deployed
    assert not left_to_do(stack)
    return deployed


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("", "WhatsApp rejects the new token"),
        ("rate limit", "WhatsApp limits the rate of calls now; try again in 35 s"),
    ],
)
def test_nothing_begins_with_a_token_that_is_not_known_to_work(stack, plays, bring, fault, said):
    before, env = plays.store_path.read_bytes(), (stack.directory / ".env").read_bytes()
    stack.control(fault=fault)
    done = plays.run("rotate.yml", "-e", "rotate=whatsapp", *bring(whatsapp=new_token("whatsapp")))
    stack.control(fault="")
    assert done.returncode != 0 and "STOPPED at open" in done.stdout, done.stdout
    text = " ".join(done.stdout.split())
    assert said in text and "Nothing was changed." in text, done.stdout
    assert plays.store_path.read_bytes() == before and (stack.directory / ".env").read_bytes() == env


def test_a_token_is_rotated_and_the_platform_confirms_the_old_ones_end(stack, plays, bring):
    old, new = everywhere(stack, plays, "whatsapp"), new_token("whatsapp")
    stack.control(whatsapp=new)
    done = plays.run("rotate-tokens.yml", *bring(whatsapp=new), "-vvvv")
    text = " ".join(done.stdout.split())
    assert done.returncode == 0 and "ROTATED whatsapp" in text, done.stdout
    assert "telegram: no new token was brought; left as it is" in text
    assert "To do: revoke the old token of the system user" in text, done.stdout
    assert everywhere(stack, plays, "whatsapp") == new
    kept = b"".join(path.read_bytes() for path in (stack.directory / ".chat4all").rglob("*") if path.is_file())
    assert not any(value in done.stdout or value.encode() in kept for value in (old, new))

    status = plays.run("status.yml")
    assert "TODO: revoke the old token of the system user in Meta's business settings" in " ".join(
        status.stdout.split()
    )
    kept = plays.run("revoke.yml", "-e", "revoke=whatsapp", "-e", "confirmed=true")
    assert kept.returncode != 0 and "WhatsApp still accepts the old token" in kept.stdout, kept.stdout
    stack.control(revoke=old)
    ended = plays.run("revoke.yml", "-e", "revoke=whatsapp")
    assert ended.returncode == 0 and "old token refused by WhatsApp" in ended.stdout, ended.stdout
    status = plays.run("status.yml")
    assert status.returncode == 0 and "lock: none" in status.stdout, status.stdout


def updates_flow(stack, more=50) -> None:
    """Wait until as many further updates were taken."""
    begin = stack.control()["counts"].get("accepted", 0)
    deadline = time.monotonic() + 60
    while stack.control()["counts"].get("accepted", 0) < begin + more:
        assert time.monotonic() < deadline, stack.control()["counts"]
        time.sleep(0.2)


def test_telegrams_old_token_is_dead_before_and_no_update_is_rejected(stack, plays, bring):
    """The connector was started again meanwhile: with the dead token it does not come up."""
    old, new = everywhere(stack, plays, "telegram"), new_token("telegram")
    stack.control(send=True)
    updates_flow(stack)
    stack.control(bot=new)
    stack.docker("restart", *stack.containers("telegram-connector"))
    try:
        done = plays.run("rotate.yml", "-e", "rotate=telegram", *bring(telegram=new))
        text = " ".join(done.stdout.split())
        assert done.returncode == 0 and "old token refused by Telegram" in text, done.stdout
        updates_flow(stack)
    finally:
        counts = stack.control(send=False)["counts"]
    assert "Gap began when BotFather issued the new token" in text and "To do: nothing." in text, done.stdout
    assert everywhere(stack, plays, "telegram") == new != old
    assert not counts.get("rejected"), counts


def test_a_webhooks_secret_changes_and_no_update_is_rejected(stack, plays):
    old = everywhere(stack, plays, "telegram-webhook")
    stack.control(send=True)
    updates_flow(stack)
    try:
        done = plays.run("rotate.yml", "-e", "rotate=telegram-webhook,whatsapp-webhook", "-vvvv")
        updates_flow(stack)
    finally:
        counts = stack.control(send=False)["counts"]
    assert done.returncode == 0 and "no service accepts the old secret any more" in done.stdout, done.stdout
    assert not counts.get("rejected"), counts
    new = everywhere(stack, plays, "telegram-webhook")
    known = stack.control()
    assert known["secrets"][BOT] == new != old and len(new) == 36
    assert known["verify_token"] == everywhere(stack, plays, "whatsapp-webhook")
    assert not environment(stack, "telegram-connector")["TELEGRAM_WEBHOOK_SECRET_PREVIOUS"]
    assert not any(value in done.stdout for value in (old, new, known["verify_token"]))
    status = plays.run("status.yml")
    assert status.returncode == 0 and "lock: none" in status.stdout, status.stdout
