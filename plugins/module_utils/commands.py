# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a command that somebody else has declared: in a session of its own, for a limited time, its output masked."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import clean_environment
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker, clean

# Where system administration commands are, of which a login over SSH often knows nothing.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
# Bytes of the output that are kept: its end.
KEPT = 64 * 1024
# Seconds between the signal to stop and the one to kill.
STOP_GRACE = 3.0


def environment() -> dict[str, str]:
    """Return what a command is given: nothing of the play's own variables."""
    found = clean_environment()
    known = found.get("PATH", "").split(os.pathsep)
    found["PATH"] = os.pathsep.join(filter(None, [*known, *(one for one in SYSTEM_FOLDERS if one not in known)]))
    return found


class Output(threading.Thread):
    """Reads what a command writes, and keeps the end of it."""

    def __init__(self, stream: Any) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._kept = bytearray()
        self._cut = False

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := self._stream.read1(65536):
                self._kept += chunk
                if len(self._kept) > 2 * KEPT:
                    del self._kept[:-KEPT]
                    self._cut = True

    def text(self, masker: Masker) -> str:
        """Return it as it may be shown."""
        raw = masker.mask(bytes(self._kept).decode("utf-8", "replace"))
        text = masker.mask("\n".join(clean(row) for row in raw.split("\n")))
        # A value that was cut in two would not be found.
        return text[masker.longest :] if self._cut else text


def end(process: subprocess.Popen) -> None:
    """End a command and what it has started in its session."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_GRACE)


def run(command: Sequence[str], timeout: float, masker: Masker) -> tuple[str, str]:
    """Run a command; returns why it failed (empty where it did not) and its masked output."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
    except FileNotFoundError:
        return f"{command[0]}: command not found", ""
    except OSError as error:
        return f"{command[0]}: {error.strerror}", ""
    output = Output(process.stdout)
    output.start()
    try:
        code = process.wait(timeout)
        reason = f"exit code {code}" if code > 0 else f"killed by signal {-code}" if code else ""
    except subprocess.TimeoutExpired:
        end(process)
        reason = f"did not end within {timeout:g} s"
    except BaseException:
        end(process)
        raise
    # What it has left in the background may hold the output open for ever.
    output.join(1.0)
    text = output.text(masker)
    last = next((row.strip() for row in reversed(text.splitlines()) if row.strip()), "")
    return reason and (f"{reason}: {last[:200]}" if last else reason), text
