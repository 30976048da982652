# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

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


@pytest.fixture(scope="package")
def certificate(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture
def platforms(certificate):
    """The stand-ins at ``url``, which know one token each; ``know`` is what they know, ``ca`` who vouches for them."""
    ca, chain, key = certificate
    know = standins.Platforms()
    know.control({"bot": BOT, "whatsapp": WHATSAPP, "instagram": INSTAGRAM})
    server = standins.Server(("127.0.0.1", 0), know, str(chain), str(key))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield SimpleNamespace(know=know, ca=str(ca), url=f"https://localhost:{server.server_port}")
    server.shutdown()
    server.server_close()
