# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells a test, over its socket, that a run comes to a step, and waits for its answer before the step begins."""

from __future__ import annotations

import os
import socket
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """See tests/faults/moments.py."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "moments"

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        step, path = task.args.get("step"), os.environ.get("CHAT4ALL_MOMENTS")
        # Tasks about an earlier rotation are announced too, although they are skipped.
        if not step or not path or "earlier" in task.get_name():
            return
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(path)
            channel.sendall(f"{os.getpid()} {step}\n".encode())
            channel.recv(1)
