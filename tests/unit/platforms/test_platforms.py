# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Only the platform's own word proves a token wrong, and no token shows in what is said of it."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms import graph, telegram, tokens
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.http import Connection, Unclear
from standins import APP, APP_SECRET

BOT = "123456:AA-old_bot-token-0123456789abcdefgh"
TOKENS = {
    "telegram": BOT,
    "whatsapp": "EAAJold-whatsapp-token-0123456789",
    "instagram": "IGAAold-instagram-token-0123456789",
}
PATHS = {"telegram": "telegram", "whatsapp": "graph", "instagram": "instagram"}
EACH = pytest.mark.parametrize("platform", sorted(TOKENS))


def connect(platforms, platform, **more):
    return Connection(f"{platforms.url}/{PATHS[platform]}/", platforms.ca, **{"timeout": 5, **more})


def look(platforms, platform, token=None, number="106540352242922", **more):
    outcome = tokens.look(
        platform, connect(platforms, platform, **more), token or TOKENS[platform], {"phone_number_id": number}
    )
    assert TOKENS[platform] not in repr(outcome) and urllib.parse.quote(TOKENS[platform]) not in repr(outcome)
    return outcome


@pytest.mark.parametrize(
    ("platform", "account"),
    [
        ("telegram", {"id": "123456", "name": "@chat_bot"}),
        ("whatsapp", {"id": "106540352242922", "name": "+1 555 0100"}),
        ("instagram", {"id": "17841400000000001", "name": "chat"}),
    ],
)
def test_an_accepted_token_says_whose_it_is(platforms, platform, account):
    outcome = look(platforms, platform)
    assert (outcome["status"], outcome["account"]) == ("accepted", account)


@pytest.mark.parametrize(
    ("platform", "token"),
    [
        ("telegram", "123456:AA-another-token-0123456789abcdefghijk"),
        ("whatsapp", "EAAJanother-0123456789"),
        ("instagram", "IGAAanother-0123456789"),
    ],
)
def test_the_platforms_own_word_proves_a_token_wrong(platforms, platform, token):
    outcome = look(platforms, platform, token)
    assert outcome["status"] == "rejected" and token not in outcome["reason"]


@EACH
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("rate limit", "limits the rate of calls now; try again in 35 s"),
        ("down", "no JSON object (status 503)"),
        ("refused by a proxy", "no JSON object (status 401)"),
        ("another status", "no answer of the"),
        ("malformed", "no JSON object"),
        ("a list", "no JSON object"),
        ("empty", "no answer of the"),
        ("huge", "answers with more than 1024 KiB"),
        ("moved", "no answer of the"),
        ("cut off", "no JSON object"),
        ("echo", "********"),
    ],
)
def test_whatever_else_goes_wrong_proves_nothing(platforms, platform, fault, reason):
    platforms.know.fault = fault
    outcome = look(platforms, platform)
    assert outcome["status"] == "unknown" and reason in outcome["reason"], outcome
    assert "control" not in platforms.know.counts, "a redirect was followed"


@EACH
@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_a_slow_platform_is_not_waited_for(platforms, platform, fault):
    platforms.know.fault = fault
    outcome = look(platforms, platform, timeout=0.4)
    assert outcome["status"] == "unknown"
    assert "has not answered within 0.4 s" in outcome["reason"] or "timed out" in outcome["reason"]


def test_a_platform_that_is_not_there_proves_nothing(platforms):
    outcome = tokens.look("telegram", Connection("https://localhost:1", timeout=5), BOT, {})
    assert outcome == {"status": "unknown", "reason": "Telegram cannot be reached: Connection refused"}


def test_nobody_else_gets_the_token(platforms):
    """A certificate of no known authority, and one for another name: the request is not made."""
    for url, ca in ((platforms.url, None), (platforms.url.replace("localhost", "127.0.0.1"), platforms.ca)):
        outcome = tokens.look("telegram", Connection(f"{url}/telegram", ca, 5), BOT, {})
        assert outcome["status"] == "unknown" and "its certificate is not trusted" in outcome["reason"]
    assert not platforms.know.counts


def test_a_certificate_that_has_expired_is_no_platforms(expired):
    outcome = tokens.look("telegram", Connection(f"{expired.url}/telegram", expired.ca, 5), BOT, {})
    assert outcome["status"] == "unknown" and not expired.know.counts
    assert outcome["reason"] == "Telegram cannot be reached: its certificate is not trusted (certificate has expired)"


@pytest.mark.parametrize(
    "api",
    ["http://api.example.org", "https://u:p@example.org", "https://", "https://example.org?x=1", "file:///etc", ""],
)
def test_an_address_without_tls_is_refused(api):
    with pytest.raises(SecretsError, match="must be an address such as https"):
        Connection(api)


def test_a_ca_that_is_none_is_named(tmp_path):
    path = tmp_path / "ca.pem"
    with pytest.raises(SecretsError, match=f"ca: {path}: cannot be read as certificates"):
        Connection("https://example.org", str(path))
    path.write_text("no certificate")
    with pytest.raises(SecretsError, match="cannot be read as certificates"):
        Connection("https://example.org", str(path))


def test_a_phone_number_that_the_token_may_not_read_proves_nothing(platforms):
    outcome = look(platforms, "whatsapp", number="1")
    assert outcome["status"] == "unknown" and "error 100: Unsupported request" in outcome["reason"]


def test_instagram_renews_a_token_beside_the_present_one(platforms):
    connection, token = connect(platforms, "instagram"), TOKENS["instagram"]
    new, valid = graph.refreshed(connection, token)
    assert new != token and valid == 5183944
    assert [look(platforms, "instagram", one)["status"] for one in (token, new)] == ["accepted", "accepted"]
    with pytest.raises(Unclear, match="too young") as refused:
        graph.refreshed(connection, new)
    assert not refused.value.rejected and new not in refused.value.reason


@pytest.mark.parametrize("fault", ["malformed", "empty", "rate limit", "down"])
def test_a_renewal_that_went_wrong_gives_no_token(platforms, fault):
    platforms.know.fault = fault
    with pytest.raises(Unclear):
        graph.refreshed(connect(platforms, "instagram"), TOKENS["instagram"])


def test_the_secret_of_telegrams_webhook_changes_alone(platforms):
    platforms.know.control({"webhook": {"bot": "123456", "url": "https://chat.example.org/hook", "secret": "old"}})
    connection = connect(platforms, "telegram")
    telegram.set_webhook_secret(connection, BOT, "new-secret")
    bot = platforms.know.bots["123456"]
    assert bot["secret"] == "new-secret"
    assert bot["webhook"] == {"url": "https://chat.example.org/hook", "max_connections": 7}
    assert look(platforms, "telegram")["webhook"] is True


def test_a_bot_that_polls_gets_no_webhook(platforms):
    assert look(platforms, "telegram")["webhook"] is False
    with pytest.raises(Unclear, match="none is set"):
        telegram.set_webhook_secret(connect(platforms, "telegram"), BOT, "new-secret")
    assert "setWebhook" not in platforms.know.counts


def test_a_certificate_of_ones_own_is_not_dropped(platforms):
    platforms.know.bots["123456"]["webhook"] = {"url": "https://chat.example.org/hook", "has_custom_certificate": True}
    with pytest.raises(Unclear, match="set it by hand"):
        telegram.set_webhook_secret(connect(platforms, "telegram"), BOT, "new-secret")


def polled(platforms, path, seconds):
    """A poll that is under way, and whose answer nobody has read yet."""
    context = ssl.create_default_context(cafile=platforms.ca)
    connection = http.client.HTTPSConnection("localhost", int(platforms.url.rpartition(":")[2]), context=context)
    connection.request("POST", path, json.dumps({"timeout": seconds}), {"Content-Type": "application/json"})
    return connection


def test_the_stand_in_tells_two_polls_at_once_from_one_after_another(platforms):
    path, bot = f"/telegram/bot{BOT}/getUpdates", platforms.know.bots["123456"]

    def begun(number):
        deadline = time.monotonic() + 10
        while bot["polls"] < number and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bot["polls"] == number

    gone = polled(platforms, path, 30)
    begun(1)
    gone.close()
    first = polled(platforms, path, 30)
    begun(2)
    assert "conflicts" not in platforms.know.counts
    assert polled(platforms, path, 0).getresponse().status == 200
    assert first.getresponse().status == 409 and platforms.know.counts["conflicts"] == 1


@pytest.fixture
def callback():
    """A webhook that answers the challenge where the verify token is the right one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            right = query["hub.verify_token"] == "right"
            self.send_response(200 if right else 403)
            self.end_headers()
            self.wfile.write(query["hub.challenge"].encode() if right else b"")

        def log_message(self, *_arguments):
            """Not logged."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/webhook"
    server.shutdown()
    server.server_close()


def test_whatsapps_verify_token_is_tried_at_the_callback(platforms, callback):
    connection, token = connect(platforms, "whatsapp"), TOKENS["whatsapp"]
    with pytest.raises(Unclear, match="has no callback addresses"):
        graph.set_whatsapp_verify_token(connection, token, "102290129340398", "right")
    platforms.know.callback = callback
    with pytest.raises(Unclear, match="Callback verification failed"):
        graph.set_whatsapp_verify_token(connection, token, "102290129340398", "wrong")
    graph.set_whatsapp_verify_token(connection, token, "102290129340398", "right")
    assert platforms.know.verify_token == "right"


def test_instagrams_subscription_stays_what_it_is_but_for_the_verify_token(platforms, callback):
    connection = connect(platforms, "whatsapp")
    with pytest.raises(Unclear, match="has no subscription of the app 1234567890 to instagram"):
        graph.set_instagram_verify_token(connection, APP, APP_SECRET, "right")
    platforms.know.control({"app_callback": callback, "fields": ["messages", "comments"]})
    with pytest.raises(Unclear, match="Callback verification failed"):
        graph.set_instagram_verify_token(connection, APP, APP_SECRET, "wrong")
    graph.set_instagram_verify_token(connection, APP, APP_SECRET, "right")
    assert (platforms.know.app_verify_token, platforms.know.app_callback) == ("right", callback)
    assert platforms.know.fields == ["messages", "comments"] and platforms.know.with_values
    with pytest.raises(Unclear, match="does not accept the token") as refused:
        graph.set_instagram_verify_token(connection, APP, APP_SECRET[:-1] + "0", "right")
    assert APP_SECRET[:-1] not in refused.value.reason
