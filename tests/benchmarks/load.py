# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bounded HTTP load: some threads, a fixed rate, a last request and a last second; then it ends by itself."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

LOOPBACK = ("127.0.0.1", "::1", "localhost")
TIMEOUT = 10.0


@dataclass
class Requests:
    """What became of the requests of one stretch of time."""

    http_requests: int = 0
    http_failures: int = 0
    # Of the requests that make a service call another one directly: the proxy is not to blame for these.
    direct_calls: int = 0
    direct_failures: int = 0
    # The longest time (s) without a successful request.
    longest_gap_s: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Requests) -> Requests:
        return Requests(
            self.http_requests + other.http_requests,
            self.http_failures + other.http_failures,
            self.direct_calls + other.direct_calls,
            self.direct_failures + other.direct_failures,
            max(self.longest_gap_s, other.longest_gap_s),
            self.reasons + other.reasons,
        )


class RequestCounter:
    """Counts outcomes, in whatever order the threads bring them."""

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._requests = Requests()
        self._last_success = now

    def _gap(self, now: float) -> None:
        self._requests.longest_gap_s = max(self._requests.longest_gap_s, now - self._last_success)

    def add(self, path: str, status: int, said: str, direct: bool, now: float) -> None:
        """Count one request: the status of its answer (0: there was none), and what was said."""
        with self._lock:
            requests = self._requests
            requests.http_requests += 1
            # A 500 is the service's own word that its direct call failed: the proxy did its part.
            reached = status == 200 or (direct and status == 500)
            if direct and reached:
                requests.direct_calls += 1
                requests.direct_failures += status == 500
            if not reached:
                requests.http_failures += 1
                requests.reasons[f"{path}: {status} {said}".splitlines()[0]] += 1
            elif not direct:
                self._gap(now)
                self._last_success = now

    def next_stretch(self, now: float) -> Requests:
        """Return what has been counted since the last call; a gap that is still open counts up to now."""
        with self._lock:
            self._gap(now)
            finished = self._requests
            self._begin(now)
            return finished


class Load:
    """``rate`` requests per second, spread over ``paths``, each on a connection of its own; ``direct`` paths besides.

    Only a loopback address is accepted. Use it as a context manager.
    """

    def __init__(
        self,
        url: str,
        paths: Sequence[str],
        *,
        rate: float,
        direct: Sequence[str] = (),
        direct_rate: float = 5,
        threads: int = 8,
        max_requests: int = 200_000,
        max_seconds: float = 3600,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.hostname not in LOOPBACK:
            raise ValueError(f"{url}: the load goes to this machine only")
        self._address = (parts.hostname, parts.port)
        self._counter = RequestCounter(time.monotonic())
        self._stop = threading.Event()
        self._left = max_requests
        self._deadline = time.monotonic() + max_seconds
        self._lock = threading.Lock()
        self._cpu = 0.0
        self._threads = [*self._make(paths, False, rate, threads), *self._make(direct, True, direct_rate, 2)]

    def _make(self, paths: Sequence[str], direct: bool, rate: float, threads: int) -> list[threading.Thread]:
        if not paths:
            return []
        # Each thread begins at another path and at another moment.
        arguments = [(paths, direct, threads / rate, number / rate, number) for number in range(threads)]
        return [threading.Thread(target=self._send, args=each, daemon=True, name="load") for each in arguments]

    def __enter__(self) -> Load:
        self._counter.next_stretch(time.monotonic())
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT + 1)

    @property
    def ended(self) -> bool:
        """Whether it has come to its last request or its last second."""
        return self._left <= 0 or time.monotonic() > self._deadline

    @property
    def cpu_seconds(self) -> float:
        """Processor time that its threads have used."""
        return self._cpu

    def mark(self) -> Requests:
        """Return what has been counted since the last mark."""
        return self._counter.next_stretch(time.monotonic())

    def _send(self, paths: Sequence[str], direct: bool, interval: float, offset: float, number: int) -> None:
        due, spent = time.monotonic() + offset, 0.0
        while not self._stop.wait(max(0.0, due - time.monotonic())) and not self.ended:
            path = paths[number % len(paths)]
            status, said = self._request(path)
            number += 1
            # A late thread does not catch up: the rate is an upper bound.
            due = max(due + interval, time.monotonic())
            cpu = time.thread_time()
            with self._lock:
                self._left -= 1
                self._cpu += cpu - spent
            spent = cpu
            self._counter.add(path, status, said, direct, time.monotonic())

    def _request(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read(200)
            return answer.status, body.decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            return 0, type(error).__name__
        finally:
            connection.close()
