# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the quality checks share: a clean copy of the checkout, and tools that run side by side with one line each."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
BIN = Path(sys.executable).parent
# A shell's own settings must not decide what the checks find.
SHADOWING = ("ANSIBLE_", "COMPOSE_", "GALAXY_IMPORTER_", "MOLECULE_", "PYTEST_", "PYTHON")


class QualityError(Exception):
    """What is missing and how to get it, in one line."""


@dataclass
class Job:
    """One tool.

    ``find`` reads what went wrong out of its output where the exit code does not tell, ``note`` what is worth saying
    when all is well; ``lines`` is a pattern of the lines worth showing where it says a lot besides.
    """

    name: str
    command: Sequence[str]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 900
    find: Callable[[str], str] = lambda output: ""
    note: Callable[[str], str] = lambda output: ""
    lines: str = ""

    def excerpt(self, output: str) -> str:
        chosen = [line for line in output.splitlines() if re.search(self.lines, line)]
        return "\n".join(chosen or output.strip().splitlines())


@dataclass
class Result:
    job: Job
    problem: str
    output: str
    seconds: float


def require(*names: str) -> None:
    """Refuse to go on without the tools of the virtual environment."""
    missing = [name for name in names if not (BIN / name).exists()]
    if missing:
        raise QualityError(f"{', '.join(missing)} not found beside {sys.executable}: use make, see make help")


def files() -> list[Path]:
    """Return what belongs to the checkout: tracked files and new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise QualityError("the checks need git and a clone of the repository: apt-get install git") from error
    names = [Path(name) for name in sorted(set(done.stdout.split("\0"))) if name]
    return [name for name in names if (ROOT / name).is_symlink() or (ROOT / name).is_file()]


@contextmanager
def clean_copy() -> Iterator[Path]:
    """Give a copy of the checkout as the collection ``chat4all.secrets``, where tools may leave what they like."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="quality-", dir=BUILD, ignore_cleanup_errors=True) as name:
        copy = Path(name) / "ansible_collections" / "chat4all" / "secrets"
        for path in files():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            # A file may go away while others work here.
            with suppress(FileNotFoundError):
                shutil.copy2(ROOT / path, copy / path, follow_symlinks=False)
        # ansible-test asks git which files there are; without a repository of its own it would ask the checkout's.
        subprocess.run(["git", "init", "--quiet", str(copy)], check=True, capture_output=True)
        yield copy


def environment(copy: Path | None = None) -> dict[str, str]:
    """Return the environment for tools; with a copy, for those that shall find the collection there."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SHADOWING)}
    return {
        **clean,
        **({"ANSIBLE_COLLECTIONS_PATH": str(copy.parents[2])} if copy else {}),
        "PATH": f"{BIN}{os.pathsep}{clean.get('PATH', os.defpath)}",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def stop(process: subprocess.Popen[str]) -> None:
    """End a tool and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Runner:
    """Runs tools side by side, says how each did, and ends with the output of those that failed."""

    def __init__(self, environment: Mapping[str, str], parallel: int | None = None) -> None:
        self._environment = environment
        self._parallel = parallel or max(2, os.cpu_count() or 1)
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, jobs: Sequence[Job]) -> bool:
        """Run the jobs, the first ones first; say whether all went well."""
        width = max(len(job.name) for job in jobs)
        failed = []
        with ThreadPoolExecutor(self._parallel) as pool:
            waiting = [pool.submit(self._one, job) for job in jobs]
            try:
                for future in as_completed(waiting):
                    result = future.result()
                    word = "FAILED" if result.problem else "ok"
                    said = result.problem or result.job.note(result.output)
                    print(f"{word:<6}  {result.job.name:<{width}}  {result.seconds:6.1f} s  {said}".rstrip())
                    sys.stdout.flush()
                    if result.problem:
                        failed.append(result)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise
        for result in failed:
            print(f"\n--- {result.job.name}: {result.problem}\n{result.job.excerpt(result.output)}")
        print()
        return not failed

    def _one(self, job: Job) -> Result:
        began = time.monotonic()
        problem = ""
        with self._lock:
            if self._stopped:
                return Result(job, "not run", "", 0)
            process = subprocess.Popen(
                job.command,
                cwd=job.cwd,
                env={**self._environment, **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running.add(process)
        try:
            output, _rest = process.communicate(timeout=job.timeout)
        except subprocess.TimeoutExpired:
            stop(process)
            output, _rest = process.communicate()
            problem = f"stopped after {job.timeout:.0f} s"
        finally:
            with self._lock:
                self._running.discard(process)
        if not problem:
            problem = job.find(output) or (f"exit code {process.returncode}" if process.returncode else "")
        return Result(job, problem, output, time.monotonic() - began)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            stop(process)


def ended(work: Callable[[], bool]) -> int:
    """Run ``work`` as a command: its exit code, and one line for what is missing."""
    # What GNU timeout, CI and kill send: tidy up as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        good = work()
    except QualityError as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{'passed' if good else 'FAILED'} in {time.monotonic() - began:.0f} s")
    return 0 if good else 1
