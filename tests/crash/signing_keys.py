#!/usr/bin/env python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kills the phases of a signing key's rotation at their points, under traffic: ``python tests/crash/signing_keys.py``.

A clean turn of the three phases finds the points. Then, turn after turn, each phase is killed at one of its points, the
same command is run until it ends well, and the state is looked at. In the end no live token may have been rejected. The
figures go to ``build/crash-jwt.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from crash import BUSY, BUSY_LIMIT, FAILURES, _why, points_of
from deployment import BUILD, ROOT, Events, harness
from outcome import check_unlocked, left_to_do
from plays import Plays
from processes import CONTROLLER, TREE, Run
from tokens import SERVICES, TokenStack

PHASES = ("introduce", "promote", "retire")
TOKEN_LIFE = 3
POLICY = {"token_life": f"{TOKEN_LIFE}s", "skew": "1s", "overlap": "2s"}


@dataclass
class Result:
    """What became of one killed phase."""

    phase: str
    label: str
    mode: str
    missed: bool = False
    reruns: int = 0
    busy: int = 0
    problems: list[str] = field(default_factory=list)


class Keys:
    """A stack whose signing key is replaced, again and again."""

    def __init__(self, name: str) -> None:
        self.stack = TokenStack(name, token_life=TOKEN_LIFE)
        self.folder = BUILD / "crash" / name
        self.runs = 0

    def __enter__(self) -> Keys:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.stack.__enter__()
        self.plays = Plays(
            self.folder / "inventory",
            self.stack.directory,
            secrets_catalog={"jwt": POLICY},
            secrets_services=SERVICES,
            rotate_rollout={"quiet": 0.2, "settle": 0.2},
        )
        self.events = Events(self.stack.project)
        done = self.plays.run("provision.yml")
        if done.returncode:
            raise harness.BenchmarkError(done.stdout)
        return self

    def __exit__(self, *exception: object) -> None:
        self.events.close()
        self.stack.down()

    def begin(self, phase: str, wanted: str = "") -> Run:
        self.runs += 1
        project = self.stack.directory
        self.events.begin()
        return Run(
            self.plays.command("rotate-jwt.yml", "-e", f"jwt_phase={phase}"),
            self.plays.environment,
            ROOT,
            self.folder / "runs" / f"{self.runs:04d}",
            [project, project / ".chat4all", self.folder / "inventory"],
            wanted,
        )

    def safe(self, phase: str) -> None:
        """Wait until the phase harms no live token."""
        if phase == "retire":
            time.sleep(TOKEN_LIFE + 1.5)

    def record(self) -> dict[str, list[tuple[str, str]]]:
        """Carry the phases out without a kill; returns the points of each."""
        points = {}
        for phase in PHASES:
            self.safe(phase)
            run = self.begin(phase)
            if run.end():
                raise harness.BenchmarkError(f"{phase}, which nobody kills, failed\n{run.output}")
            points[phase] = points_of(run.trace, self.events.labels)
        return points

    def kill(self, phase: str, label: str, mode: str) -> Result:
        """Kill the phase at a point, run the same command again until it ends well, and look."""
        result = Result(phase, label, mode)
        self.safe(phase)
        at_event = label.endswith(" event")
        run = self.begin(phase, "" if at_event else label)
        runs = [run]
        if run.until(lambda: label in self.events.labels if at_event else run.reached):
            run.kill(mode)
            self._recover(phase, result, runs)
        else:
            result.missed = True
            if run.process.returncode:
                result.problems.append(f"nobody killed it, and it failed: {_why(run.output)}")
        deadline = time.monotonic() + 60
        while any(run.modules_at_work() for run in runs) and time.monotonic() < deadline:
            time.sleep(0.1)
        try:
            self.check(phase)
        except AssertionError as error:
            result.problems.append(str(error))
        return result

    def _recover(self, phase: str, result: Result, runs: list[Run]) -> None:
        deadline, failures = time.monotonic() + BUSY_LIMIT, 0
        while failures < FAILURES:
            run = self.begin(phase)
            runs.append(run)
            result.reruns += 1
            if run.end() == 0:
                return
            if BUSY in re.sub(r"\s+", " ", run.output) and time.monotonic() < deadline:
                result.busy += 1
                continue
            failures += 1
            result.problems.append(f"rerun {result.reruns}: {_why(run.output)}")

    def check(self, phase: str) -> None:
        """Assert that the phase is done, in store, ``.env`` and containers alike, and nothing is left of it."""
        entry = self.plays.store()["secrets_credentials"]["jwt"]
        assert "target" not in entry and "dropped" not in entry, f"unfinished in the store: {sorted(entry)}"
        beside = {"introduce": "next", "promote": "previous", "retire": "spare"}[phase]
        slots = {label for label in ("next", "previous", "spare") if label in entry}
        assert slots == {beside}, f"after {phase} the store has {sorted(slots)}"
        env = self.stack.env()
        found = (env["JWT_SIGNING_KEY"], env["JWT_SIGNING_KEY_SECONDARY"])
        assert found == (entry["current"]["password"], entry[beside]["password"]), ".env and store disagree"
        assert not (planned := left_to_do(self.stack)), f"docker compose up would change: {planned}"
        for service in self.stack.consumers:
            [container] = self.stack.containers(service, running=False)
            form = "{{range .Config.Env}}{{println .}}{{end}}"
            given = dict(pair.split("=", 1) for pair in self.stack.docker("inspect", "-f", form, container).split())
            assert (given["JWT_SIGNING_KEY"], given["JWT_SIGNING_KEY_SECONDARY"]) == found, (
                f"{service} was not replaced"
            )
        check_unlocked(self.stack.directory / ".chat4all")


def chosen(points: list[tuple[str, str]], sample: int) -> list[tuple[str, str]]:
    if not 0 < sample < len(points):
        return points
    return [points[int(number * len(points) / sample)] for number in range(sample)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the phases of a signing key's rotation, and see them recover.")
    parser.add_argument("--sample", type=int, default=0, help="so many points of each phase (all)")
    parser.add_argument("--output", type=Path, default=BUILD / "crash-jwt.json")
    options = parser.parse_args()
    harness.end_on_signals()
    results: list[Result] = []
    with Keys("crash-jwt") as keys:
        points = keys.record()
        print({phase: len(found) for phase, found in points.items()}, flush=True)
        left = {phase: chosen(points[phase], options.sample) for phase in PHASES}
        while any(left.values()):
            for phase in PHASES:
                # A phase that has no point left is carried out all the same: the next one needs it.
                label, mode = left[phase].pop(0) if left[phase] else ("none", TREE)
                result = keys.kill(phase, label, mode)
                if label != "none":
                    results.append(result)
                    word = "FAILED" if result.problems else "missed" if result.missed else "ok"
                    print(f"{phase:<10} {label:<70} {mode:<11} {word}", *result.problems, flush=True)
        keys.stack.settle()
        counts = keys.stack.counts()
    figures = {
        "points": len(results),
        "missed": sum(result.missed for result in results),
        "controller_alone": sum(result.mode == CONTROLLER for result in results),
        "recovered": sum(not result.problems and not result.missed for result in results),
        "tokens": {word: counts[word] for word in ("verified", "rejected", "missed")},
        "results": [asdict(result) for result in results],
    }
    options.output.write_text(json.dumps(figures, indent=2) + "\n")
    print({key: value for key, value in figures.items() if key != "results"})
    good = not counts["rejected"] and figures["recovered"] == len(results) - figures["missed"] and not figures["missed"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
