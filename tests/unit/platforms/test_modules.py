# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two modules, against stand-ins of the platforms."""

from __future__ import annotations

import json

import pytest
import standins
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import unseal
from ansible_collections.chat4all.secrets.plugins.modules import (
    api_token_credential,
    api_token_credential_info,
    webhook_credential,
    webhook_credential_info,
)
from standins import ECHO_POSTED

BOT = "123456:AA-old_bot-token-0123456789abcdefgh"
WHATSAPP = "EAAJold-whatsapp-token-0123456789"
NEW = "EAAJnew-whatsapp-token-0123456789"
INSTAGRAM = "IGAAold-instagram-token-0123456789"
KEY = bytes(range(32))


@pytest.fixture
def run(platforms, monkeypatch, capsys):
    """A way to run a module; returns its result."""
    monkeypatch.setattr(AnsibleModule, "log", lambda *_arguments, **_more: None)

    def run(module, platform, check_mode=False, **arguments):
        given = {"platform": platform, "api": f"{platforms.url}/{platform}", "ca": platforms.ca, **arguments}
        with patch_module_args({**given, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        text = capsys.readouterr().out
        assert not any(token in text for token in (BOT, WHATSAPP, INSTAGRAM))
        return json.loads(text)

    return run


def test_each_token_has_an_outcome(run):
    credentials = [{"label": "old", "password": BOT}, {"label": "new", "password": BOT[:-1] + "X"}]
    result = run(api_token_credential_info, "telegram", credentials=credentials)
    assert {label: login["status"] for label, login in result["logins"].items()} == {
        "old": "accepted",
        "new": "rejected",
    }


@pytest.mark.parametrize("flat", [False, True])
def test_instagrams_account_is_read_as_documented_and_flat(run, platforms, flat):
    platforms.know.flat = flat
    result = run(api_token_credential_info, "instagram", credentials=[{"label": "old", "password": INSTAGRAM}])
    assert result["logins"]["old"]["account"]["name"] == "chat"


def test_a_renewed_token_comes_back_sealed(run, platforms):
    arguments = {"credential": {"password": INSTAGRAM}, "seal_key": KEY.hex()}
    tried = run(api_token_credential, "instagram", check_mode=True, **arguments)
    assert tried["login"]["status"] == "accepted" and platforms.know.control({})["instagram"] == [INSTAGRAM]
    result = run(api_token_credential, "instagram", **arguments)
    new = unseal(KEY, result["sealed"]).decode()
    assert result["changed"] and new != INSTAGRAM and new in platforms.know.instagram
    assert new not in json.dumps(result)


@pytest.mark.parametrize("platform", ["telegram", "whatsapp"])
def test_what_no_platform_renews_a_person_brings(run, platform):
    arguments = {"credential": {"password": BOT}, "seal_key": KEY.hex(), "phone_number_id": "1"}
    assert "renews no token by its API" in run(api_token_credential, platform, **arguments)["msg"]


def test_an_old_token_has_ended_where_the_platform_says_so(run, platforms):
    arguments = {"state": "absent", "credential": {"password": BOT}}
    failed = run(api_token_credential, "telegram", **arguments)
    assert failed["msg"] == "Telegram still accepts the token; end the old token with BotFather's /revoke"
    platforms.know.fault = "down"
    assert "status 503" in run(api_token_credential, "telegram", **arguments)["msg"]
    platforms.know.fault = ""
    platforms.know.control({"bot": BOT[:-1] + "X"})
    assert run(api_token_credential, "telegram", **arguments)["login"]["status"] == "rejected"


@pytest.fixture
def ending(platforms):
    """The options by which an old token of WhatsApp ends by a call that is made with a new one."""
    platforms.know.control({"whatsapp": NEW})
    app = {"app_id": standins.APP, "app_secret": standins.APP_SECRET, "access_token": NEW}
    return {"state": "absent", "phone_number_id": standins.NUMBER, "credential": {"password": WHATSAPP}, **app}


def test_an_old_token_of_whatsapp_ends_by_a_call(run, platforms, ending):
    tried = run(api_token_credential, "whatsapp", check_mode=True, **ending)
    assert tried["changed"] and platforms.know.whatsapp == {WHATSAPP, NEW}
    result = run(api_token_credential, "whatsapp", **ending)
    assert result["changed"] and result["login"]["status"] == "rejected" and platforms.know.whatsapp == {NEW}
    again = run(api_token_credential, "whatsapp", **ending)
    assert not again["changed"] and again["login"]["status"] == "rejected"
    assert not any(value in json.dumps([tried, result, again]) for value in (NEW, standins.APP_SECRET))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"app_secret": "f" * 32}, "WhatsApp answers 400, error 101: Error validating application"),
        ({"access_token": WHATSAPP[:-1]}, "WhatsApp does not accept the token (error 190)"),
        ({"access_token": None}, "parameters are required together: app_id, app_secret, access_token"),
        ({"platform": "telegram", "credential": {"password": BOT}}, "app_id: Telegram ends no token by its API"),
    ],
)
def test_a_token_that_the_call_does_not_end_is_told(run, platforms, ending, wrong, said):
    given = {"platform": "whatsapp", **ending, **wrong}
    result = run(api_token_credential, **{name: value for name, value in given.items() if value})
    assert result["failed"] and said in result["msg"] and WHATSAPP in platforms.know.whatsapp
    assert "f" * 32 not in result["msg"]


def test_a_call_that_ends_nothing_is_not_believed(run, platforms, ending, monkeypatch):
    monkeypatch.setattr(platforms.know, "graph_revoked", lambda _query: (200, {"success": True}))
    result = run(api_token_credential, "whatsapp", **ending)
    assert "WhatsApp still accepts the token; revoke the old token" in result["msg"]


def test_a_number_is_needed_for_whatsapp(run):
    result = run(api_token_credential_info, "whatsapp", credentials=[{"label": "one", "password": BOT}])
    assert "phone_number_id" in result["msg"]


def test_telegram_is_told_another_secret(run, platforms):
    hook = {"url": "https://chat.example.org/hook", "bot": "123456", "secret": "old"}
    platforms.know.control({"webhook": hook})
    arguments = {"token": BOT, "credential": {"password": "a-new-secret"}, "settle": 0}
    assert run(webhook_credential_info, "telegram", token=BOT)["url"] == hook["url"]
    run(webhook_credential, "telegram", check_mode=True, **arguments)
    assert platforms.know.bots["123456"]["secret"] == "old"
    assert run(webhook_credential, "telegram", **arguments)["changed"]
    assert platforms.know.bots["123456"]["secret"] == "a-new-secret"


def test_a_secret_that_the_webhook_refuses_is_told(run, platforms):
    platforms.know.control({"webhook": {"url": "https://chat.example.org/hook", "bot": "123456", "secret": "old"}})
    platforms.know.refusing = "Wrong response from the webhook: 403 Forbidden"
    arguments = {"token": BOT, "credential": {"password": "a-new-secret"}, "settle": 0}
    said = run(webhook_credential, "telegram", **arguments)["msg"]
    assert said == "Telegram was refused by the webhook: Wrong response from the webhook: 403 Forbidden"


def test_a_verify_token_that_the_webhook_refuses_is_told(run, platforms, monkeypatch):
    """Other than a platform that cannot be told: whoever has both secrets may go back."""
    platforms.know.control({"callback": "https://chat.example.org/hook"})
    arguments = {"api": f"{platforms.url}/graph", "account_id": standins.ACCOUNT, "token": WHATSAPP}
    arguments |= {"credential": {"password": "a-new-secret"}}
    monkeypatch.setattr(platforms.know, "verified", lambda *_arguments: False)
    failed = run(webhook_credential, "whatsapp", **arguments)
    assert failed["refused"] and "error 2200: Callback verification failed" in failed["msg"]
    platforms.know.fault = "down"
    assert not run(webhook_credential, "whatsapp", **arguments)["refused"]


def test_a_certificate_of_ones_own_is_told_before_anything_is_begun(run, platforms):
    hook = {"url": "https://chat.example.org/hook", "has_custom_certificate": True}
    platforms.know.bots["123456"]["webhook"] = hook
    found = run(webhook_credential_info, "telegram", token=BOT)
    assert found["status"] == "unknown" and "a certificate of your own" in found["reason"]


def test_a_platform_that_says_again_what_it_was_told_shows_no_secret(run, platforms):
    platforms.know.control({"webhook": {"url": "https://chat.example.org/hook", "bot": "123456", "secret": "old"}})
    platforms.know.fault = ECHO_POSTED
    arguments = {"token": BOT, "credential": {"password": "a-new-secret"}, "settle": 0}
    said = run(webhook_credential, "telegram", **arguments)["msg"]
    assert "'secret_token': '********'" in said and "/telegram/bot********/setWebhook" in said, said


@pytest.mark.parametrize("fault", ["rate limit", "down", "malformed"])
def test_a_platform_that_cannot_be_told_is_one_line(run, platforms, fault):
    platforms.know.fault = fault
    arguments = {"token": BOT, "credential": {"password": "a-new-secret"}, "settle": 0}
    failed = run(webhook_credential, "telegram", **arguments)
    assert failed["failed"] and failed["msg"].startswith("Telegram ") and "\n" not in failed["msg"]
    assert run(webhook_credential_info, "telegram", token=BOT)["status"] == "unknown"
