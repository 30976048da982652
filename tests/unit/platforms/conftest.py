# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import datetime
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "platforms"))

import certificates
import standins

BOT = "123456:AA-old_bot-token-0123456789abcdefgh"
WHATSAPP = "EAAJold-whatsapp-token-0123456789"
INSTAGRAM = "IGAAold-instagram-token-0123456789"


@pytest.fixture
def expired(tmp_path):
    """The stand-ins with a certificate that was valid until a minute ago."""
    with serving(*certificates.make(tmp_path, "localhost", valid=datetime.timedelta(minutes=-1))) as found:
        yield found


@pytest.fixture(scope="package")
def certificate(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture
def platforms(certificate):
    """The stand-ins at ``url``, which know one token each; ``know`` is what they know, ``ca`` who vouches for them."""
    with serving(*certificate) as found:
        yield found


@contextlib.contextmanager
def serving(ca, chain, key):
    """The stand-ins with a certificate."""
    know = standins.Platforms()
    know.control({"bot": BOT, "whatsapp": WHATSAPP, "instagram": INSTAGRAM})
    server = standins.Server(("127.0.0.1", 0), know, str(chain), str(key))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield SimpleNamespace(know=know, ca=str(ca), url=f"https://localhost:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
