# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The count of HTTP requests, and the bounds of the load."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.chat4all.secrets.tests.benchmarks.load import Load, RequestCounter, Requests


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/silent":
            return
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def sent(url: str, paths: list[str], *, direct: list[str] | None = None, count: int = 20) -> Requests:
    with Load(url, paths, rate=2000, direct=direct or [], direct_rate=2000, threads=2, max_requests=count) as load:
        deadline = time.monotonic() + 5
        while not load.ended and time.monotonic() < deadline:
            time.sleep(0.01)
    return load.mark()


def test_it_ends_by_itself_after_its_last_request(url: str) -> None:
    requests = sent(url, ["/200"])
    assert 20 <= requests.http_requests <= 21
    assert requests.http_failures == 0


def test_it_ends_by_itself_after_its_last_second(url: str) -> None:
    with Load(url, ["/200"], rate=100, max_seconds=0.05) as load:
        time.sleep(0.1)
    assert load.ended
    assert load.mark().http_requests < 20


def test_it_goes_to_this_machine_only() -> None:
    with pytest.raises(ValueError, match="this machine only"):
        Load("http://192.0.2.1:80", ["/"], rate=1)


@pytest.mark.parametrize("path", ["/404", "/500", "/503", "/silent"])
def test_every_answer_but_200_and_none_at_all_is_a_failure(url: str, path: str) -> None:
    requests = sent(url, [path])
    assert requests.http_failures == requests.http_requests > 0
    assert sum(requests.reasons.values()) == requests.http_failures


def test_a_failed_direct_call_is_not_held_against_the_proxy(url: str) -> None:
    requests = sent(url, ["/200"], direct=["/500"])
    assert requests.http_failures == 0
    assert requests.direct_calls == requests.direct_failures > 0


def test_a_direct_call_that_the_proxy_could_not_deliver_is_a_failed_request(url: str) -> None:
    requests = sent(url, ["/200"], direct=["/503"])
    assert requests.direct_calls == requests.direct_failures == 0
    assert requests.http_failures > 0


def test_the_longest_gap_is_between_two_successes_or_open_at_either_end() -> None:
    counter = RequestCounter(100.0)
    counter.add("/", 200, "", False, 100.5)
    counter.add("/", 503, "", False, 101.0)
    counter.add("/", 200, "", True, 101.5)
    counter.add("/", 200, "", False, 102.5)
    assert counter.next_stretch(103.0).longest_gap_s == 2.0
    assert counter.next_stretch(110.0).longest_gap_s == 7.0


def test_stretches_add_up() -> None:
    one = Requests(10, 1, 2, 1, 0.5)
    one.reasons["/: 503"] = 1
    both = one + Requests(5, 0, 1, 0, 0.25)
    assert (both.http_requests, both.http_failures, both.direct_calls, both.direct_failures) == (15, 1, 3, 1)
    assert (both.longest_gap_s, both.reasons) == (0.5, {"/: 503": 1})
