# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that mints a token every 20 ms and verifies those of all others, twice: at once, and just before they expire.

Tokens are handed over in a shared folder, a file by container; so none is lost while containers are replaced, and a new
container meets the tokens that were signed before it began. What counts is what PyJWT says with the keys of this
container's own environment. Signs with ``JWT_SIGNING_KEY``, where there is one; verifies with it and with
``JWT_SIGNING_KEY_SECONDARY``, or with the document in ``JWT_JWKS``.
"""

from __future__ import annotations

import heapq
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt

FOLDER = Path("/tokens")
SERVICE = os.environ["SERVICE_NAME"]
CONTAINER = f"{SERVICE}.{socket.gethostname()}"
ALGORITHM = os.environ.get("JWT_ALGORITHM", "HS256")
KEY = os.environ.get("JWT_SIGNING_KEY", "")
SECONDARY = os.environ.get("JWT_SIGNING_KEY_SECONDARY", "")
KEY_ID = os.environ.get("JWT_KEY_ID", "")
DOCUMENT = os.environ.get("JWT_JWKS", "")
TOKEN_LIFE = int(os.environ.get("TOKEN_LIFE", "10"))
INTERVAL = 0.02
# Seconds before its end at which a token is verified for the last time.
LAST = 0.5


class Verifier:
    """Accepts what one of this container's keys has signed."""

    def __init__(self) -> None:
        if DOCUMENT:
            self.published = {key.key_id: key.key for key in jwt.PyJWKSet.from_json(DOCUMENT).keys}
        self.shared = [key for key in (KEY, SECONDARY) if key]

    def accepts(self, token: str) -> bool:
        if DOCUMENT:
            published = self.published.get(jwt.get_unverified_header(token).get("kid"))
            candidates = [published] if published else []
        else:
            candidates = self.shared
        for key in candidates:
            try:
                jwt.decode(token, key, [ALGORITHM])
                return True
            except jwt.InvalidSignatureError:
                continue
        return False


class Traffic:
    """What comes in, and what is counted of it by the service that signed."""

    def __init__(self) -> None:
        self.verifier = Verifier()
        self.offsets: dict[Path, int] = defaultdict(int)
        self.later: list[tuple[float, str, str]] = []
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)

    def sweep(self) -> None:
        """Verify what is new, and what is about to expire."""
        for path in FOLDER.glob("*.tokens"):
            signer = path.name.partition(".")[0]
            if signer == SERVICE:
                continue
            with path.open() as file:
                file.seek(self.offsets[path])
                text = file.read()
            complete = text[: text.rfind("\n") + 1]
            self.offsets[path] += len(complete)
            for line in complete.splitlines():
                expires, _space, token = line.partition(" ")
                if float(expires) - time.time() > LAST:
                    self.verify(signer, token)
                    heapq.heappush(self.later, (float(expires) - LAST, signer, token))
        while self.later and self.later[0][0] <= time.time():
            _when, signer, token = heapq.heappop(self.later)
            self.verify(signer, token)

    def verify(self, signer: str, token: str) -> None:
        try:
            self.counts[signer]["verified" if self.verifier.accepts(token) else "rejected"] += 1
        except jwt.ExpiredSignatureError:
            # This machine was too busy to come in time.
            self.counts[signer]["missed"] += 1

    def write(self) -> None:
        path = FOLDER / f"{CONTAINER}.json"
        path.with_suffix(".new").write_text(json.dumps(self.counts))
        path.with_suffix(".new").replace(path)


def mint(stop: threading.Event) -> None:
    """Sign a token every 20 ms."""
    headers = {"kid": KEY_ID} if KEY_ID else None
    with (FOLDER / f"{CONTAINER}.tokens").open("a", buffering=1) as file:
        while not stop.wait(INTERVAL):
            now = int(time.time())
            token = jwt.encode({"iss": SERVICE, "exp": now + TOKEN_LIFE}, KEY, ALGORITHM, headers=headers)
            file.write(f"{now + TOKEN_LIFE} {token}\n")


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Requests are not logged."""


def main() -> int:
    end = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, end)
    stop, traffic = threading.Event(), Traffic()

    def take_in() -> None:
        while True:
            ended = stop.is_set()
            traffic.sweep()
            traffic.write()
            if ended:
                return
            stop.wait(INTERVAL)

    threads = [threading.Thread(target=take_in)]
    if KEY and (not DOCUMENT or KEY_ID):
        threads.append(threading.Thread(target=mint, args=(stop,)))
    for thread in threads:
        thread.start()
    threading.Thread(target=ThreadingHTTPServer(("", 8080), Health).serve_forever, daemon=True).start()
    print(f"Started {SERVICE}", flush=True)
    signal.sigwait(end)
    stop.set()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
