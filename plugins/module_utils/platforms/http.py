# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One HTTPS request to a platform: verified, bounded in time and size, and no secret in what is said of it."""

from __future__ import annotations

import email.utils
import http.client
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker

# Seconds for a whole request, whatever the platform does meanwhile; bytes of an answer.
TIMEOUT = 20.0
LIMIT = 1024 * 1024
# Characters of what a platform says that are shown.
SHOWN = 160


class Unclear(Exception):
    """The platform has not done what it was asked.

    ``rejected``: it said that it does not know the token. ``refused``: the webhook has refused it the new secret.
    """

    def __init__(self, reason: str, rejected: bool = False, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rejected = rejected
        self.refused = refused


@dataclass(frozen=True)
class Answer:
    """What a platform has answered: a JSON object, whatever its status."""

    status: int
    body: dict[str, Any]
    retry_after: float | None = None


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is sent to nobody else."""

    def redirect_request(self, *_arguments: Any, **_more: Any) -> None:
        return None


@dataclass(frozen=True)
class Connection:
    """Where a platform's API is, and how it is known to be the platform: ``ca`` is a file with further authorities."""

    api: str
    ca: str | None = None
    timeout: float = TIMEOUT
    context: ssl.SSLContext = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "api", checked_url(self.api, "api").rstrip("/"))
        try:
            context = ssl.create_default_context()
            if self.ca:
                context.load_verify_locations(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise SecretsError(f"ca: {self.ca}: cannot be read as certificates: {_os_reason(error)}") from None
        object.__setattr__(self, "context", context)

    def call(
        self,
        path: str,
        secrets: Collection[str],
        query: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | None = None,
        bearer: str | None = None,
    ) -> Answer:
        """Return the answer to a request: a POST of JSON where there is ``data``. ``secrets`` are masked in any reason."""
        url = f"{self.api}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "User-Agent": "chat4all.secrets"}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        body = None
        if data is not None:
            body = json.dumps(data).encode()
            headers["Content-Type"] = "application/json"
        masker = Masker(secrets)
        found: list[Any] = []
        request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 (checked_url: https)
        worker = threading.Thread(target=self._fetch, args=(request, found), daemon=True)
        # urllib's own time-out begins anew with each byte.
        worker.start()
        worker.join(self.timeout)
        if not found:
            raise Unclear(f"has not answered within {self.timeout:g} s")
        [result] = found
        if isinstance(result, Exception):
            raise Unclear(masker.shown(f"cannot be reached: {_reason(result)}")[:SHOWN])
        status, answer_headers, content = result
        return self._answer(status, answer_headers, content)

    def _fetch(self, request: urllib.request.Request, found: list[Any]) -> None:
        handlers = [NoRedirect(), urllib.request.HTTPSHandler(context=self.context)]
        try:
            try:
                answer = urllib.request.build_opener(*handlers).open(request, timeout=self.timeout)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                found.append((answer.getcode(), answer.headers, answer.read(LIMIT + 1)))
        except Exception as error:  # whatever it is, it is told in the thread that waits
            found.append(error)

    @staticmethod
    def _answer(status: int, headers: Mapping[str, str], content: bytes) -> Answer:
        if len(content) > LIMIT:
            raise Unclear(f"answers with more than {LIMIT // 1024} KiB (status {status})")
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        if status == 429 and not isinstance(body, dict):
            body = {}
        if not isinstance(body, dict):
            raise Unclear(f"answers with what is no JSON object (status {status})")
        return Answer(status, body, _retry_after(headers.get("Retry-After")))


def checked_url(url: str, where: str) -> str:
    """Return an ``https://`` URL without login, query and fragment; raises for any other."""
    try:
        parts = urllib.parse.urlsplit(url)
        wrong = parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment
        wrong = wrong or not url.isprintable() or " " in url or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise SecretsError(f"{where}: must be an address such as https://api.example.org, without a login or a query")
    return url


def rate_limited(seconds: float | None) -> Unclear:
    """Return what to raise where a platform limits the rate of calls."""
    again = f"; try again in {seconds:.0f} s" if seconds else ""
    return Unclear(f"limits the rate of calls now{again}")


def said(text: Any, secrets: Collection[str]) -> str:
    """Return what a platform says, as it may be shown; nothing where it is no text."""
    return Masker(secrets).shown(text)[:SHOWN] if isinstance(text, str) else ""


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header: a number, or a date."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _reason(error: Exception) -> str:
    """Return in a few words why a request failed; never its URL."""
    inner = getattr(error, "reason", error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({inner.verify_message})"
    if isinstance(inner, TimeoutError):
        return "timed out"
    if isinstance(inner, OSError):
        return _os_reason(inner)
    return "broken answer" if isinstance(error, http.client.HTTPException) else type(error).__name__


def _os_reason(error: OSError) -> str:
    return error.strerror or str(getattr(error, "reason", "")) or type(error).__name__
