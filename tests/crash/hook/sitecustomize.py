# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Loaded by every Python process of a run (PYTHONPATH): the controller, its workers, the modules.

Each durable write, each command to the engine and each call to a platform is two points: ``before``, and ``after``: the
effect is there, nobody has seen the reply. Every point is written to the run's ``trace``; at the one that is ``wanted`` the process says
``reached`` and stops itself. The folder of the run is in ``CHAT4ALL_CRASH``; without it nothing happens.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.request

FOLDER = os.environ.get("CHAT4ALL_CRASH", "")
STEP = "CHAT4ALL_CRASH_STEP"
# Options of docker compose that take their value as the next word.
WITH_VALUE = {"--project-directory", "--profile", "--env-file", "--project-name"}
# A file on its way to a rename has its points there.
TEMPORARY = re.compile(r"/\.[^/]+\.\d+\.tmp$")
CHANGES = {"start", "stop", "rm", "rename", "exec", "kill", "restart", "compose create", "compose up", "compose run"}


def process_name() -> str:
    """Return which module this is, or ``controller``."""
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    return "controller" if name == "ansible-playbook" else name


def protocol_step() -> str:
    """Return the step of the protocol that this process works for."""
    frame = sys._getframe()
    while frame:
        if frame.f_code.co_filename.endswith("plugins/action/rotation.py") and "step" in frame.f_locals:
            return frame.f_locals["step"]
        frame = frame.f_back
    return os.environ.get(STEP, "")


def engine_command(command: object) -> str:
    """Return what a command to the engine does, if it changes something or speaks with a server; else nothing."""
    if not isinstance(command, (list, tuple)) or os.path.basename(str(command[0])) != "docker":
        return ""
    words = [str(word) for word in command[1:]]
    verb = words[0]
    if verb == "compose":
        position = 1
        while words[position].startswith("-"):
            position += 2 if words[position] in WITH_VALUE else 1
        verb = f"compose {words[position]}"
    if verb not in CHANGES or "--dry-run" in words:
        return ""
    return f"docker {verb}" + (" psql" if verb == "exec" and "psql" in words else "")


def platform_call(request: object) -> str:
    """Return which of a platform's methods one of our requests calls; nothing where it is none of ours."""
    if not isinstance(request, urllib.request.Request) or request.get_header("User-agent") != "chat4all.secrets":
        return ""
    # What stands before the last part may be a token.
    return f"{request.get_method()} {request.full_url.partition('?')[0].rpartition('/')[2]}"


class Points:
    """The points of one run, whichever process comes to them."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(os.path.join(folder, "plan.json"), encoding="utf-8") as stream:
            plan = json.load(stream)
        self.wanted = plan["wanted"]
        self.watched = {os.path.realpath(path) for path in plan["folders"]}

    def is_watched(self, path: str) -> bool:
        return os.path.realpath(os.path.dirname(path)) in self.watched

    def reach(self, operation: str, moment: str) -> None:
        step, name = protocol_step(), process_name()
        with open(os.path.join(self.folder, "trace"), "a+", encoding="utf-8") as trace:
            fcntl.flock(trace, fcntl.LOCK_EX)
            trace.seek(0)
            rows = [json.loads(line) for line in trace]
            number = 1 + sum(row["what"] == [step, name, operation, moment] for row in rows)
            label = f"{step} {name}: {operation} #{number} {moment}"
            row = {"label": label, "what": [step, name, operation, moment], "pid": os.getpid(), "t": time.time()}
            trace.write(json.dumps(row) + "\n")
        if label == self.wanted:
            with open(os.path.join(self.folder, "reached"), "w", encoding="utf-8") as stream:
                stream.write(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)


def install(points: Points) -> None:
    """Put the points around what makes things durable."""
    replace, fsync, run, begin = os.replace, os.fsync, subprocess.run, subprocess.Popen.__init__
    call = urllib.request.OpenerDirector.open

    def observed_replace(source, target, **options):
        if not points.is_watched(target):
            return replace(source, target, **options)
        operation = f"write {os.path.basename(target)}"
        points.reach(operation, "before")
        replace(source, target, **options)
        return points.reach(operation, "after")

    def observed_fsync(descriptor):
        path = os.readlink(f"/proc/self/fd/{int(descriptor)}")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or TEMPORARY.search(path) or not points.is_watched(path):
            return fsync(descriptor)
        operation = f"append {os.path.basename(path)}"
        points.reach(operation, "before")
        fsync(descriptor)
        return points.reach(operation, "after")

    def observed_run(*arguments, **options):
        operation = engine_command(arguments[0] if arguments else options.get("args"))
        check = options.pop("check", False)
        if not operation:
            return run(*arguments, check=check, **options)
        points.reach(operation, "before")
        done = run(*arguments, check=check, **options)
        points.reach(operation, "after")
        return done

    def observed_call(self, request, *arguments, **options):
        operation = platform_call(request)
        if not operation:
            return call(self, request, *arguments, **options)
        points.reach(operation, "before")
        try:
            return call(self, request, *arguments, **options)
        finally:
            points.reach(operation, "after")

    def observed_begin(self, *arguments, **options):
        # A module is started by its worker: it is told for which step.
        if process_name() == "controller" and protocol_step():
            os.environ[STEP] = protocol_step()
        return begin(self, *arguments, **options)

    os.replace, os.fsync, subprocess.run, subprocess.Popen.__init__ = (
        observed_replace,
        observed_fsync,
        observed_run,
        observed_begin,
    )
    urllib.request.OpenerDirector.open = observed_call


if FOLDER:
    install(Points(FOLDER))
