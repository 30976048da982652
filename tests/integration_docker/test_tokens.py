# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""API tokens of connectors that work: a wrong one is not published, a right one is rolled out, the old one is seen dead."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from outcome import containers, left_to_do
from plays import Plays

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platforms"))

from connectors import BOT, Connectors, new_token
from standins import APP

VARIABLES = {
    "telegram": "TELEGRAM_BOT_TOKEN",
    "whatsapp": "WHATSAPP_API_TOKEN",
    "instagram": "INSTAGRAM_ACCESS_TOKEN",
    "telegram-webhook": "TELEGRAM_WEBHOOK_SECRET",
    "whatsapp-webhook": "WHATSAPP_WEBHOOK_VERIFY_TOKEN",
    "instagram-webhook": "INSTAGRAM_VERIFY_TOKEN",
}
WEBHOOKS = [name for name in VARIABLES if name.endswith("-webhook")]


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


def wait_for(stack, **more) -> None:
    """Wait until the platforms have counted as much more."""
    begin = Counter(stack.control()["counts"])
    wanted = {name: begin[name] + number for name, number in more.items()}
    deadline = time.monotonic() + 60
    while any(stack.control()["counts"].get(name, 0) < number for name, number in wanted.items()):
        assert time.monotonic() < deadline, stack.control()["counts"]
        time.sleep(0.2)


@contextlib.contextmanager
def traffic(stack):
    """Updates and challenges all the while; what is yielded has in the end how many were refused meanwhile."""
    stack.control(send=True)
    wait_for(stack, accepted=20, verified=20)
    begin, refused = stack.control()["counts"], {}
    try:
        yield refused
        wait_for(stack, accepted=20, verified=20)
    finally:
        end = stack.control(send=False)["counts"]
        refused |= {name: end.get(name, 0) - begin.get(name, 0) for name in ("rejected", "unverified")}


NONE = {"rejected": 0, "unverified": 0}


def test_a_secret_that_is_changed_everywhere_at_once_is_refused_meanwhile(stack):
    """The control: as the seed does it, in ``.env`` and at the services first, the platforms' own requests are refused."""
    env = (stack.directory / ".env").read_text()
    changed = env
    for name in WEBHOOKS:
        changed = changed.replace(stack.env()[VARIABLES[name]], "another")
    stack.control(send=True)
    try:
        (stack.directory / ".env").write_text(changed)
        stack.compose("up", "-d", timeout=60)
        wait_for(stack, rejected=5, unverified=5)
    finally:
        (stack.directory / ".env").write_text(env)
        stack.compose("up", "-d", timeout=60)
        stack.control(send=False)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("", "WhatsApp rejects the new token"),
        ("rate limit", "WhatsApp limits the rate of calls now; try again in 35 s"),
        ("down", "WhatsApp answers with what is no JSON object (status 503)"),
        ("malformed", "WhatsApp answers with what is no JSON object (status 200)"),
        ("slow", "WhatsApp has not answered within 20 s"),
    ],
)
def test_nothing_begins_with_a_token_that_is_not_known_to_work(stack, plays, bring, fault, said):
    before, env = plays.store_path.read_bytes(), (stack.directory / ".env").read_bytes()
    running = {name: stack.containers(name) for name in stack.consumers}
    stack.control(fault=fault)
    with traffic(stack) as refused:
        done = plays.run("rotate.yml", "-e", "rotate=whatsapp", *bring(whatsapp=new_token("whatsapp")))
    stack.control(fault="")
    assert done.returncode != 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if "STOPPED at open" in line]
    assert lines and all(said in line and "Nothing was changed." in line for line in lines), done.stdout
    assert plays.store_path.read_bytes() == before and (stack.directory / ".env").read_bytes() == env
    assert {name: stack.containers(name) for name in stack.consumers} == running
    assert refused == NONE


def test_a_token_is_rotated_and_the_platform_confirms_the_old_ones_end(stack, plays, bring):
    old, new = everywhere(stack, plays, "whatsapp"), new_token("whatsapp")
    stack.control(whatsapp=new)
    done = plays.run("rotate.yml", "-e", "rotate=whatsapp", *bring(whatsapp=new), "-vvvv")
    text = " ".join(done.stdout.split())
    assert done.returncode == 0 and "ROTATED whatsapp" in text, done.stdout
    assert "To do: revoke the old token of the system user" in text, done.stdout
    assert everywhere(stack, plays, "whatsapp") == new
    kept = b"".join(path.read_bytes() for path in (stack.directory / ".chat4all").rglob("*") if path.is_file())
    assert not any(value in done.stdout or value.encode() in kept for value in (old, new))

    status = plays.run("status.yml")
    todo = "TODO: revoke the old token of the system user in Meta's business settings"
    # It fails once the day is over.
    assert status.returncode == 0 and todo in " ".join(status.stdout.split()), status.stdout
    kept = plays.run("revoke.yml", "-e", "revoke=whatsapp", "-e", "confirmed=true")
    assert kept.returncode != 0 and "WhatsApp still accepts the old token" in kept.stdout, kept.stdout
    stack.control(revoke=old)
    ended = plays.run("revoke.yml", "-e", "revoke=whatsapp")
    assert ended.returncode == 0 and "old token refused by WhatsApp" in ended.stdout, ended.stdout
    status = plays.run("status.yml")
    assert status.returncode == 0 and "lock: none" in status.stdout, status.stdout


def test_where_the_app_is_known_the_platforms_api_ends_the_old_token(stack, plays, bring):
    old, new = everywhere(stack, plays, "whatsapp"), new_token("whatsapp")
    plays.variables["secrets_catalog"]["whatsapp"] |= {"app_id": APP, "token": "instagram-app"}
    plays.write_inventory()
    stack.control(whatsapp=new)
    done = plays.run("rotate.yml", "-e", "rotate=whatsapp", *bring(whatsapp=new), "-vvvv")
    text = " ".join(done.stdout.split())
    assert done.returncode == 0 and "old token ended by WhatsApp's API, and refused since" in text, done.stdout
    assert "To do: nothing." in text and everywhere(stack, plays, "whatsapp") == new
    accepted = stack.control()["whatsapp"]
    assert new in accepted and old not in accepted
    assert not any(value in done.stdout for value in (old, new, stack.env()["INSTAGRAM_APP_SECRET"]))


def test_instagrams_token_is_renewed_by_the_play_itself_once_it_is_a_day_old(stack, plays):
    old = everywhere(stack, plays, "instagram")
    stack.control(instagram=old, aged=False)
    early = plays.run("rotate-tokens.yml")
    text = " ".join(early.stdout.split())
    assert early.returncode != 0 and "STOPPED instagram at create: Instagram answers 400, error 10" in text, (
        early.stdout
    )
    assert "too young to be refreshed" in text and everywhere(stack, plays, "instagram") == old
    stack.control(instagram=old, aged=True)
    done = plays.run("rotate-tokens.yml", "-vvvv")
    text = " ".join(done.stdout.split())
    assert done.returncode == 0 and "renewed by Instagram, valid for 59d; stored" in text, done.stdout
    assert "telegram: no new token was brought; left as it is" in text
    new = everywhere(stack, plays, "instagram")
    # Nobody has to end the old one, which is valid until it runs out.
    assert "old token: runs out by 20" in text and "To do: nothing." in text, done.stdout
    assert new != old and {old, new} <= set(stack.control()["instagram"])
    assert not any(value in done.stdout for value in (old, new))
    # From a schedule: there is nothing to do for weeks.
    again = plays.run("rotate-tokens.yml")
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
    assert "instagram: Instagram renews it in" in again.stdout


def test_telegrams_old_token_is_dead_before_and_no_update_is_rejected(stack, plays, bring):
    """The connector was started again meanwhile: with the dead token it does not come up."""
    old, new = everywhere(stack, plays, "telegram"), new_token("telegram")
    with traffic(stack) as refused:
        stack.control(bot=new)
        stack.docker("restart", *stack.containers("telegram-connector"))
        done = plays.run("rotate.yml", "-e", "rotate=telegram", *bring(telegram=new))
        text = " ".join(done.stdout.split())
        assert done.returncode == 0 and "old token refused by Telegram" in text, done.stdout
    assert "Gap began when BotFather issued the new token" in text and "To do: nothing." in text, done.stdout
    assert everywhere(stack, plays, "telegram") == new != old
    assert refused == NONE


def test_a_webhooks_secret_changes_and_no_update_is_rejected(stack, plays):
    """The verify tokens are tried all the while, too, though the platforms themselves do so but once."""
    old = {name: everywhere(stack, plays, name) for name in WEBHOOKS}
    with traffic(stack) as refused:
        done = plays.run("rotate.yml", "-e", f"rotate={','.join(WEBHOOKS)}", "-vvvv")
        assert done.returncode == 0 and "no service accepts the old secret any more" in done.stdout, done.stdout
    assert refused == NONE
    new, known = {name: everywhere(stack, plays, name) for name in WEBHOOKS}, stack.control()
    told = [known["secrets"][BOT], known["verify_token"], known["app_verify_token"]]
    assert told == list(new.values()) and not set(told) & set(old.values()) and {len(one) for one in told} == {36}
    for name in WEBHOOKS:
        assert not environment(stack, name.replace("webhook", "connector"))[f"{VARIABLES[name]}_PREVIOUS"]
    secret = {*old.values(), *told, stack.env()["INSTAGRAM_APP_SECRET"]}
    assert not any(value in done.stdout for value in secret)
    status = plays.run("status.yml")
    assert status.returncode == 0 and "lock: none" in status.stdout, status.stdout


def test_the_way_back_from_a_webhooks_secret_tells_the_platform_first(stack, plays):
    """Telegram sends the new secret by then, and nobody knows: its answer was lost."""
    old = everywhere(stack, plays, "telegram-webhook")
    with traffic(stack) as refused:
        stack.control(fault="lost reply")
        lost = plays.run("rotate.yml", "-e", "rotate=telegram-webhook")
        stack.control(fault="")
        assert lost.returncode != 0 and "STOPPED  telegram-webhook at drain" in lost.stdout, lost.stdout
        assert stack.control()["secrets"][BOT] != old
        done = plays.run("abort.yml", "-e", "rotate=telegram-webhook")
        assert done.returncode == 0 and "ABORTED" in done.stdout, done.stdout
    assert refused == NONE
    assert everywhere(stack, plays, "telegram-webhook") == old == stack.control()["secrets"][BOT]
    assert not environment(stack, "telegram-connector")["TELEGRAM_WEBHOOK_SECRET_PREVIOUS"]


def test_of_a_bot_that_polls_no_two_connectors_run_at_once(stack, plays, bring):
    hook = {"bot": BOT, "url": stack.hook("telegram"), "secret": stack.env()["TELEGRAM_WEBHOOK_SECRET"]}
    stack.control(webhook={"bot": BOT, "url": "", "secret": ""})
    try:
        stack.docker("restart", *stack.containers("telegram-connector"))
        wait_for(stack, getUpdates=3)
        stack.poll()  # the control: two at once
        wait_for(stack, getUpdates=2)
        before = stack.control()["counts"]
        assert before["conflicts"] == 1
        new = new_token("telegram")
        stack.control(bot=new)
        done = plays.run("rotate-tokens.yml", *bring(telegram=new))
        text = " ".join(done.stdout.split())
        assert done.returncode == 0 and "gaps: telegram-connector" in text, done.stdout
        wait_for(stack, getUpdates=2)
        assert stack.control()["counts"]["conflicts"] == 1
        assert everywhere(stack, plays, "telegram") == new
    finally:
        stack.control(webhook=hook)
