# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reference consumer: opens database connections as a Spring service with a Hikari pool does.

``serve`` answers HTTP on port 8080; ``migrate`` is the one-shot job that makes the tables. Its configuration is the
environment of a Spring service (``SPRING_DATASOURCE_URL``, ``_USERNAME``, ``_PASSWORD``) and the few values below.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2

BEGAN = time.monotonic()
SERVICE = os.environ.get("SERVICE_NAME", "message-service")
APPLICATION = "".join(word.capitalize() for word in SERVICE.split("-")) + "Application"
PORT = 8080

POOL_SIZE = int(os.environ.get("POOL_SIZE", "3"))
POOL_MAX_LIFETIME = float(os.environ.get("POOL_MAX_LIFETIME", "2"))  # seconds; Hikari's own default is half an hour
POOL_TIMEOUT = 3.0  # seconds that a request waits for a connection
LOGIN_INTERVAL = float(os.environ.get("LOGIN_INTERVAL", "0.5"))  # seconds between background logins, 0: none
DRAIN_SECONDS = float(os.environ.get("DRAIN_SECONDS", "1"))  # how long it serves after SIGTERM, seen as down
UPSTREAM_URL = os.environ.get("UPSTREAM_URL")  # called by /work: another service, through the proxy
DIRECT_URL = os.environ.get("DIRECT_URL")  # called by /call: another service by its name, without the proxy
FAULTS = "/faults"
POOL = "com.zaxxer.hikari.pool.HikariPool"

MIGRATIONS = """
CREATE TABLE IF NOT EXISTS messages (
    id bigserial PRIMARY KEY,
    service text NOT NULL,
    body text NOT NULL
);
ALTER TABLE messages ADD COLUMN IF NOT EXISTS created timestamptz NOT NULL DEFAULT now();
CREATE TABLE IF NOT EXISTS users (id bigserial PRIMARY KEY, name text NOT NULL UNIQUE);
INSERT INTO users (name) VALUES ('chat4all') ON CONFLICT DO NOTHING;
"""


def log(level: str, source: str, text: str) -> None:
    """Write one line as Spring Boot does."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sys.stdout.write(f"{now} {level:>5} 1 --- [{threading.current_thread().name:>15.15}] {source:<40} : {text}\n")
    sys.stdout.flush()


class Counters:
    """What /stats shows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {
            "logins": {"attempts": 0, "refused": 0, "failed": 0},
            "requests": {"served": 0, "failed": 0},
            "calls": {"attempts": 0, "failed": 0},
        }

    def add(self, group: str, name: str) -> None:
        with self._lock:
            self._counts[group][name] += 1

    def snapshot(self) -> dict:
        with self._lock:
            return {group: dict(counts) for group, counts in self._counts.items()}


COUNTERS = Counters()


class LoginError(Exception):
    """The server's own words about a login that failed, in one line."""


def login():
    """Open one new connection with the data source of the environment; every attempt is counted."""
    # jdbc:postgresql://host:port/database
    host, port, database = re.fullmatch(
        r"jdbc:postgresql://([^:/?]+):?(\d*)/([^?]+).*", os.environ["SPRING_DATASOURCE_URL"]
    ).groups()
    COUNTERS.add("logins", "attempts")
    try:
        connection = psycopg2.connect(
            host=host,
            port=port or "5432",
            dbname=database,
            user=os.environ["SPRING_DATASOURCE_USERNAME"],
            password=os.environ["SPRING_DATASOURCE_PASSWORD"],
            application_name=SERVICE,
            connect_timeout=5,
        )
    except psycopg2.OperationalError as error:
        text = " ".join(str(error).split())
        refused = re.search(r"FATAL: .*?(password authentication failed|is not permitted to log in|no pg_hba)", text)
        COUNTERS.add("logins", "refused" if refused else "failed")
        raise LoginError("FATAL: " + text.partition("FATAL: ")[2] if refused else text) from None
    connection.autocommit = True
    return connection


class Pool:
    """A few connections with a short life, replaced in the background, as Hikari does."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._idle: list[tuple[float, object]] = []
        self._size = 0

    def fill(self) -> None:
        """Open the connections that are missing; the first failure ends it."""
        while True:
            with self._condition:
                if self._size >= POOL_SIZE:
                    return
                self._size += 1
                # Hikari varies the lifetime too, or the whole pool would be replaced at once.
                expires = time.monotonic() + POOL_MAX_LIFETIME * (1 - 0.1 * self._size / POOL_SIZE)
            try:
                connection = login()
            except LoginError:
                self._drop()
                raise
            with self._condition:
                self._idle.append((expires, connection))
                self._condition.notify()

    def _drop(self, connection=None) -> None:
        if connection is not None:
            connection.close()
        with self._condition:
            self._size -= 1

    @contextmanager
    def connection(self):
        """Lend a connection that has not been closed by the server."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._idle, timeout=POOL_TIMEOUT):
                raise LoginError(f"HikariPool-1 - Connection is not available, timed out after {POOL_TIMEOUT} s")
            expires, connection = self._idle.pop()
        try:
            yield connection
        except psycopg2.Error:
            self._drop(connection)
            raise
        with self._condition:
            self._idle.append((expires, connection))
            self._condition.notify()

    def valid(self) -> bool:
        """Say whether a connection of the pool still answers."""
        try:
            with self.connection() as connection, connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except (LoginError, psycopg2.Error):
            return False
        return True

    def housekeeping(self) -> None:
        """Retire what is old and open what is missing, for ever."""
        pause = 0.1
        while True:
            now = time.monotonic()
            with self._condition:
                old = [entry for entry in self._idle if entry[0] <= now]
                self._idle = [entry for entry in self._idle if entry[0] > now]
            for _expires, connection in old:
                self._drop(connection)
            try:
                self.fill()
                pause = 0.1
            except LoginError as error:
                log("ERROR", POOL, f"HikariPool-1 - cannot open a connection: {error}")
                # Hikari too waits 250 ms and then longer.
                pause = min(max(0.25, pause * 1.5), 5)
            time.sleep(pause)


def log_in_regularly() -> None:
    """Open and close a connection of its own every so often, as jobs and health indicators do."""
    while True:
        time.sleep(LOGIN_INTERVAL)
        try:
            login().close()
        except LoginError as error:
            log("ERROR", "o.s.jdbc.support.JdbcTransactionManager", str(error))


def fetch(url: str) -> int:
    """Return the status of another service's answer; the name is resolved anew each time."""
    request = urllib.request.Request(url, headers={"Connection": "close"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        answer.read()
        return answer.status


class Service:
    """What the endpoints do."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.draining = threading.Event()
        self.fault = fault()
        self._active = 0
        self._changed = threading.Condition()

    @contextmanager
    def request(self):
        """Count a request that is being answered."""
        with self._changed:
            self._active += 1
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def finish(self) -> None:
        """Wait for the requests that are being answered."""
        with self._changed:
            self._changed.wait_for(lambda: not self._active, timeout=5)

    def health(self) -> dict:
        if self.draining.is_set():
            raise RuntimeError("draining")
        if self.fault == "never-healthy" or not self.pool.valid():
            raise RuntimeError("no valid connection")
        return {"status": "UP"}

    def work(self) -> dict:
        """Write through the pool, read on a connection of its own, and pass the request on where there is a next."""
        with self.pool.connection() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO messages (service, body) VALUES (%s, 'hello') RETURNING id", (SERVICE,))
            message = cursor.fetchone()[0]
        fresh = login()
        try:
            with fresh.cursor() as cursor:
                cursor.execute("SELECT current_user, session_user")
                current, session = cursor.fetchone()
        finally:
            fresh.close()
        if UPSTREAM_URL:
            fetch(UPSTREAM_URL)
        names = {"current_user": current, "session_user": session}
        return {"service": SERVICE, "container": socket.gethostname(), "message": message, **names}

    def call(self) -> dict:
        """Call another service by its name, without the proxy."""
        COUNTERS.add("calls", "attempts")
        try:
            fetch(DIRECT_URL or "")
        except Exception:
            COUNTERS.add("calls", "failed")
            raise
        return {"called": DIRECT_URL}

    def stats(self) -> dict:
        return {"service": SERVICE, "container": socket.gethostname(), **COUNTERS.snapshot()}


def handler(service: Service) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests."""
    endpoints = {"/health": service.health, "/work": service.work, "/call": service.call, "/stats": service.stats}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            with service.request():
                self.answer()

        def answer(self) -> None:
            endpoint = endpoints.get(self.path)
            status = 200
            try:
                answer = endpoint() if endpoint else {"error": "not found"}
                status = 200 if endpoint else 404
            except Exception as error:
                answer = {"error": " ".join(str(error).split())}
                status = 503 if self.path == "/health" else 500
                if status == 500:
                    log("ERROR", "o.a.c.c.C.[.[.[/].[dispatcherServlet]", f"{self.path}: {answer['error']}")
            if self.path != "/health":
                COUNTERS.add("requests", "served" if status < 500 else "failed")
            body = json.dumps(answer).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if service.draining.is_set():
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Requests are not logged."""

    return Handler


class Server(ThreadingHTTPServer):
    """One thread per connection."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is no error of ours."""


def fault() -> str:
    """Return the fault that a test has planted for this service's next start."""
    try:
        with open(f"{FAULTS}/{SERVICE}", encoding="utf-8") as planted:
            return planted.read().strip()
    except OSError:
        return ""


def serve() -> int:
    service = Service()
    log("INFO", APPLICATION, f"Starting {APPLICATION}")
    if service.fault == "exit":
        log("ERROR", "o.s.boot.SpringApplication", "Application run failed")
        return 1
    try:
        service.pool.fill()
    except LoginError as error:
        log("ERROR", POOL, f"HikariPool-1 - Exception during pool initialization: {error}")
        log("ERROR", "o.s.boot.SpringApplication", "Application run failed")
        return 1
    if service.fault == "log-failure":
        user = os.environ["SPRING_DATASOURCE_USERNAME"]
        log("ERROR", POOL, f'FATAL: password authentication failed for user "{user}"')
    server = Server(("", PORT), handler(service))
    # Waited for, not handled: the kernel may hand a signal to a thread that cannot run Python's handlers, and the main
    # thread, which waits for something else, then sleeps on. The threads inherit the mask.
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    background = [server.serve_forever, service.pool.housekeeping]
    if LOGIN_INTERVAL:
        background.append(log_in_regularly)
    for target in background:
        threading.Thread(target=target, daemon=True, name=target.__name__).start()
    log("INFO", APPLICATION, f"Started {APPLICATION} in {time.monotonic() - BEGAN:.2f} seconds")

    signal.sigwait(stop)
    log("INFO", "o.s.b.w.e.tomcat.GracefulShutdown", "Commencing graceful shutdown. Waiting for active requests")
    service.draining.set()
    time.sleep(DRAIN_SECONDS)
    server.shutdown()
    service.finish()
    log("INFO", "o.s.b.w.e.tomcat.GracefulShutdown", "Graceful shutdown complete")
    return 0


def migrate() -> int:
    if fault() == "exit":
        log("ERROR", "o.f.core.internal.command.DbMigrate", "Migration failed")
        return 1
    try:
        connection = login()
    except LoginError as error:
        log("ERROR", "o.f.core.internal.command.DbMigrate", str(error))
        return 1
    with connection.cursor() as cursor:
        cursor.execute(MIGRATIONS)
    connection.close()
    log("INFO", "o.f.core.internal.command.DbMigrate", "Schema is up to date")
    return 0


if __name__ == "__main__":
    sys.exit({"serve": serve, "migrate": migrate}[sys.argv[1]]())
