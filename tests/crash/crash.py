#!/usr/bin/env python
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kills rotations at every point and looks at what the same command, run again, makes of it: ``make crash``.

A clean rotation of each case finds the points. Then, for each of them: rotate, kill there, run the same command until
it ends well, and check the end state, which is where the next rotation begins. Where a rotation is done by several
commands in turn, each is killed at its own points. The figures go to ``build/crash.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cases import CASES, Case
from deployment import BUILD, ROOT, Rotated, harness
from processes import CONTROLLER, TREE, Run
from stack import StackError

FIGURES = BUILD / "crash.json"
SEEDS = range(1, 201)
LANES = 3
# How long a rerun may be told that the one before is still at work, in seconds; and how often it may fail otherwise
# before the stack is given up.
BUSY, BUSY_LIMIT = "is working there; run the same command later", 120
FAILURES = 3
# What the operations of durable writes begin with.
WRITES = ("write", "append")


class Point(NamedTuple):
    """Where and how a rotation can be killed, in which of its turns."""

    label: str
    mode: str
    turn: str = ""


@dataclass(frozen=True)
class Kill:
    """When and how a rotation is killed: at the point ``label``, or ``seconds`` after its start."""

    label: str
    mode: str
    turn: str = ""
    seconds: float | None = None
    # The first rerun is killed too, after so many seconds.
    again: float | None = None


@dataclass
class Result:
    """What became of one killed rotation."""

    case: str
    kind: str
    label: str
    mode: str
    turn: str = ""
    recovered: bool = False
    # The rotation ended before: a point that it never came to, or a random moment after its end.
    missed: bool = False
    reruns: int = 0
    # How often a rerun was told to come back later.
    busy: int = 0
    # What the case counts of its users.
    accepted: int = 0
    refused: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    probes: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def row(self) -> str:
        word = "FAILED" if self.problems else "missed" if self.missed else "ok"
        label = f"{self.turn}: {self.label}" if self.turn else self.label
        return f"{self.case:<18} {label:<72} {self.mode:<11} {word:<7} {self.refused:>4} refused {self.seconds:6.1f} s"


def points_of(trace: Sequence[dict[str, Any]], events: Sequence[str], turn: str = "") -> list[Point]:
    """Return the kill points of a clean rotation in the order in which they came.

    Of the questions that are put to a server or a platform, the first stands for all. Where a module changes
    something, killing the controller alone is a further point: at its first point, at each of its commands to the
    engine, and at each call that changes something at a platform. Of two writes with nothing between them, the second
    one's ``before`` is the first one's ``after``.
    """
    found: list[Point] = []
    begun: set[tuple[str, str]] = set()
    last: tuple[int, str] = (0, "")
    for row in trace:
        step, name, operation, moment = row["what"]
        reads = name.endswith("_info")
        if (reads or operation.startswith("GET")) and f" #1 {moment}" not in row["label"]:
            continue
        if not (last == (row["pid"], "after") and moment == "before" and operation.startswith(WRITES)):
            found.append(Point(row["label"], TREE, turn))
        last = (row["pid"], moment) if operation.startswith(WRITES) else (0, "")
        changes = name != "controller" and not reads and moment == "before"
        if changes and ((step, name) not in begun or operation.startswith(("docker", "POST"))):
            begun.add((step, name))
            found.append(Point(row["label"], CONTROLLER, turn))
    return found + [Point(label, TREE, turn) for label in events]


def in_turn(points: Sequence[Point]) -> list[Point]:
    """Return the points so that each turn's first one comes first, then their second ones, and so on."""
    turns = dict.fromkeys(point.turn for point in points)
    each = ([point for point in points if point.turn == turn] for turn in turns)
    return [point for point in chain.from_iterable(zip_longest(*each)) if point]


def random_kill(seed: int, points: Sequence[str], length: float) -> Kill:
    """Return the kill that a seed stands for: at any moment of a clean run's length, now and then at a point."""
    chance = random.Random(seed)
    mode = CONTROLLER if chance.random() < 0.3 else TREE
    again = round(chance.uniform(0.5, length), 2) if chance.random() < 0.2 else None
    moment = round(chance.uniform(0, length), 2)
    if chance.random() < 0.25:
        label = chance.choice(sorted(points))
        return Kill(label, mode, again=again)
    return Kill(f"at {moment:.2f} s", mode, seconds=moment, again=again)


class Lane:
    """One stack, on which one rotation after the other is killed."""

    def __init__(self, name: str, case: Case) -> None:
        self.name, self.case = name, case
        self.deployment: Rotated | None = None
        self.points: list[Point] = []
        self.clean_seconds = 0.0

    def __enter__(self) -> Lane:
        self._build()
        return self

    def __exit__(self, *exception: object) -> None:
        self._remove()

    def _build(self) -> None:
        deployment = self.deployment = self.case.deployment(self.name, self.case)
        deployment.__enter__()
        try:
            deployment.start()
        except BaseException:
            self._remove()
            raise

    def _remove(self) -> None:
        if self.deployment:
            deployment, self.deployment = self.deployment, None
            deployment.__exit__(None, None, None)

    def record(self) -> None:
        """Carry out each turn once without a kill: what it comes to are its points."""
        deployment = self.deployment
        deployment.warm_up()
        deployment.counts()
        for turn in deployment.turns:
            deployment.prepare(turn)
            run = deployment.run()
            code = run.end()
            self.clean_seconds += time.monotonic() - run.began
            deployment.remember()
            problems = deployment.check().problems
            if code or problems:
                raise harness.BenchmarkError("\n".join(["a rotation that nobody kills failed", *problems, run.output]))
            self.points += points_of(run.trace, deployment.events.labels, turn)
        if self.case.zero_refused and deployment.counts().refused:
            raise harness.BenchmarkError("a rotation that nobody kills had something refused")
        if not deployment.control_is_seen():
            raise harness.BenchmarkError("what is refused on purpose is not counted")
        deployment.counts()

    def finish(self) -> list[str]:
        """Try every value that ever was, and see once more that what is refused would be counted."""
        problems = self.deployment.check(everything=True).problems
        refused = self.deployment.counts().refused
        if self.case.zero_refused and refused:
            problems.append(f"{refused} {self.case.counted} were refused")
        return problems if self.deployment.control_is_seen() else [*problems, "what is refused is not counted"]

    def kill(self, kind: str, kill: Kill) -> Result:
        """Rotate, kill, run the same command again until it ends well, and check."""
        deployment = self.deployment
        result = Result(self.case.name, kind, kill.label, kill.mode, kill.turn)
        began = time.monotonic()
        runs: list[Run] = []
        try:
            deployment.prepare(kill.turn)
            killed = self._begin(kill, runs)
            result.missed = not killed
            deployment.remember()
            if not killed and runs[0].process.returncode:
                result.problems.append(f"a rotation that nobody killed failed: {_why(runs[0].output)}")
            if killed and kind == "point" and kill.mode == CONTROLLER and not runs[0].survivors:
                result.problems.append("no module worked on after its controller was killed")
            if killed:
                self._recover(kill, result, runs)
            if not deployment.until_nothing_works(runs):
                result.problems.append("a process of a killed run does not end")
            deployment.remember()
            check = deployment.check()
            result.problems += check.problems
            result.probes = check.probes
            counts = deployment.counts()
            result.accepted, result.refused, result.reasons = counts.accepted, counts.refused, dict(counts.reasons)
            if not counts.accepted:
                result.problems.append(f"no {self.case.counted} were accepted all the while")
        except (StackError, harness.BenchmarkError, subprocess.SubprocessError, OSError, RuntimeError) as error:
            result.problems.append(f"{type(error).__name__}: {error}")
        result.recovered = not result.problems and not (kind == "point" and result.missed)
        result.seconds = time.monotonic() - began
        if result.problems:
            self._keep_evidence(result, runs)
            self._remove()
            self._build()
        return result

    def _begin(self, kill: Kill, runs: list[Run]) -> bool:
        """Rotate until it is to be killed, and kill it; false where it ended before."""
        events = self.deployment.events
        at_event = kill.label.endswith(" event")
        run = self.deployment.run(wanted="" if at_event or kill.seconds is not None else kill.label)
        runs.append(run)
        if kill.seconds is not None:
            came = run.until_age(kill.seconds)
        elif at_event:
            came = run.until(lambda: kill.label in events.labels)
        else:
            came = run.until(lambda: run.reached)
        if came:
            run.kill(kill.mode)
        return came

    def _recover(self, kill: Kill, result: Result, runs: list[Run]) -> None:
        deadline = time.monotonic() + BUSY_LIMIT
        failures = 0
        while failures < FAILURES:
            run = self.deployment.run()
            runs.append(run)
            result.reruns += 1
            # The rerun takes a second until it changes anything.
            if result.reruns == 1 and self.case.zero_refused and not self.deployment.works():
                result.problems.append("the service that is replaced start-first did not work after the kill")
            if kill.again is not None and result.reruns == 1 and run.until_age(kill.again):
                run.kill(kill.mode)
                self.deployment.remember()
                continue
            code = run.end()
            self.deployment.remember()
            if code == 0:
                return
            if BUSY in re.sub(r"\s+", " ", run.output) and time.monotonic() < deadline:
                result.busy += 1
                continue
            failures += 1
            result.problems.append(f"rerun {result.reruns} ended with exit code {code}: {_why(run.output)}")

    def _keep_evidence(self, result: Result, runs: list[Run]) -> None:
        name = re.sub(r"[^\w.#-]+", "_", f"{result.case}-{result.turn}-{result.label}-{result.mode}")
        folder = BUILD / "crash" / "failed" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, run in enumerate(runs):
            (folder / f"run-{number}.txt").write_text(run.output)
        (folder / "problems.txt").write_text("\n".join(result.problems) + "\n")
        state = self.deployment.stack.directory / ".chat4all" / "state.json"
        if state.exists():
            (folder / "state.json").write_text(state.read_text())
        mine = f"label=com.docker.compose.project={self.deployment.stack.project}"
        listing = self.deployment.stack.docker("ps", "--all", "--filter", mine)
        (folder / "containers.txt").write_text(listing)


def _why(output: str) -> str:
    """Return the line of a run's output that says why it failed."""
    lines = [line.strip() for line in output.splitlines() if re.search(r"STOPPED|\[ERROR\]|fatal:|Traceback", line)]
    return " / ".join(lines[:3])[:400] or output.strip()[-300:]


# -- the whole


@dataclass
class Selection:
    """Which part of the whole is run."""

    points: str = ""
    sample: int = 0
    seeds: Sequence[int] = ()

    def choose(self, case: Case, points: Sequence[Point]) -> list[Point]:
        chosen = [point for point in points if re.search(self.points, f"{point.label} {point.mode} {point.turn}")]
        sample = self.sample or case.sample
        if 0 < sample < len(chosen):
            step = len(chosen) / sample
            chosen = [chosen[int(number * step)] for number in range(sample)]
        return chosen


class Matrix:
    """All lanes, and the results as they come in."""

    def __init__(self, cases: Sequence[Case], selection: Selection, lanes: int) -> None:
        self.cases, self.selection, self.lanes = cases, selection, lanes
        self.results: list[Result] = []
        self.recorded: dict[str, dict[str, Any]] = {}
        self.problems: list[str] = []
        self.stopped = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Run one case after the other, each spread over all lanes."""
        work = [(case, part) for case in self.cases for part in range(self.lanes)]
        with ThreadPoolExecutor(self.lanes) as pool:
            futures = [pool.submit(self._lane, *each) for each in work]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self.stopped.set()
                raise

    def _lane(self, case: Case, part: int) -> None:
        if self.stopped.is_set():
            return
        with Lane(f"crash-{case.name.replace('_', '-')}-{part + 1}", case) as lane:
            lane.record()
            with self._lock:
                # The first lane's points are those of all: one that another does not come to is missed, not left out.
                known = self.recorded.setdefault(
                    case.name, {"clean_seconds": lane.clean_seconds, "points": lane.points}
                )
            if part == 0:
                self.say(
                    f"{case.name}: a clean rotation takes {known['clean_seconds']:.1f} s "
                    f"and has {len(known['points'])} points"
                )
            for point in in_turn(self.selection.choose(case, known["points"])[part :: self.lanes]):
                self._one(lane, "point", Kill(*point))
            labels = sorted({point.label for point in known["points"] if not point.label.endswith("event")})
            for seed in self._seeds(case)[part :: self.lanes]:
                self._one(lane, f"seed {seed}", random_kill(seed, labels, lane.clean_seconds))
            if self.stopped.is_set():
                return
            problems = lane.finish()
            with self._lock:
                self.problems += [f"{case.name}, at the end: {problem}" for problem in problems]

    def _seeds(self, case: Case) -> list[int]:
        """Return the seeds of a case; they are shared among those that are killed at random."""
        cases = [each for each in self.cases if each.at_random]
        return [seed for seed in self.selection.seeds if case.at_random and cases[seed % len(cases)] is case]

    def _one(self, lane: Lane, kind: str, kill: Kill) -> None:
        if self.stopped.is_set():
            return
        result = lane.kill(kind, kill)
        if result.kind != "point":
            result.label = f"{result.kind}: {result.label}" + (f", again at {kill.again} s" if kill.again else "")
        with self._lock:
            self.results.append(result)
        self.say(result.row)
        for problem in result.problems:
            self.say(f"    {problem}")

    @staticmethod
    def say(text: str) -> None:
        print(text, flush=True)

    def figures(self) -> dict[str, Any]:
        points = [each for each in self.results if each.kind == "point"]
        seeds = [each for each in self.results if each.kind != "point"]
        strict = [case for case in self.cases if case.zero_refused]

        def total(what: str, cases: Sequence[Case], logins: bool) -> int:
            names = {case.name for case in cases if (case.counted == "logins") is logins}
            return sum(getattr(each, what) for each in self.results if each.case in names)

        return {
            "points": len(points),
            "recovered": sum(each.recovered for each in points),
            "missed": sum(each.missed for each in points),
            "random_killed": sum(not each.missed for each in seeds),
            "controller_alone": sum(each.mode == CONTROLLER for each in points),
            "logins": total("accepted", self.cases, logins=True),
            "refused_logins": total("refused", strict, logins=True),
            # Signed tokens, calls with API tokens, updates and verify tokens of webhooks.
            "tokens": total("accepted", self.cases, logins=False),
            "refused_tokens": total("refused", strict, logins=False),
            "random_runs": len(seeds),
            "random_recovered": sum(each.recovered for each in seeds),
            "problems": self.problems,
            "cases": {case.name: self._case(case) for case in self.cases},
            "machine": {"processors": os.cpu_count(), "load_average": os.getloadavg()},
        }

    def _case(self, case: Case) -> dict[str, Any]:
        mine = [each for each in self.results if each.case == case.name]
        known = self.recorded.get(case.name, {"clean_seconds": 0, "points": []})
        return {
            "clean_seconds": round(known["clean_seconds"], 1),
            "points_found": len(known["points"]),
            "counted": case.counted,
            "accepted": sum(each.accepted for each in mine),
            "refused": sum(each.refused for each in mine),
            "must_refuse_none": case.zero_refused,
            "results": [asdict(each) for each in sorted(mine, key=lambda each: (each.kind, each.label, each.mode))],
        }


def is_good(figures: dict[str, Any]) -> bool:
    return (
        figures["points"] + figures["random_runs"] > 0
        and figures["recovered"] == figures["points"]
        and figures["random_recovered"] == figures["random_runs"]
        and not figures["refused_logins"]
        and not figures["refused_tokens"]
        and not figures["problems"]
    )


def summary(figures: dict[str, Any]) -> str:
    lines = [
        f"points      {figures['recovered']} of {figures['points']} recovered, {figures['missed']} not reached",
        f"random      {figures['random_recovered']} of {figures['random_runs']} recovered, "
        f"{figures['random_killed']} killed before their end",
    ]
    for name, case in figures["cases"].items():
        word = "must be 0" if case["must_refuse_none"] else "there is a gap"
        counts = f"{case['accepted']} {case['counted']}, {case['refused']} refused ({word})"
        lines.append(f"{name:<17} {case['points_found']} points, {counts}")
    return "\n".join([*lines, *figures["problems"]])


def markdown(figures: dict[str, Any]) -> str:
    """Return the matrix of docs/reliability.md: one line for each step and case."""
    lines = ["| step | case | points | recovered | refused |", "|---|---|---|---|---|"]
    for name, case in figures["cases"].items():
        rows = [each for each in case["results"] if each["kind"] == "point"]
        steps = list(
            dict.fromkeys(step for step in STEPS if any(each["label"].startswith(f"{step} ") for each in rows))
        )
        for step in steps:
            mine = [each for each in rows if each["label"].startswith(f"{step} ")]
            counts = [len(mine), sum(each["recovered"] for each in mine), sum(each["refused"] for each in mine)]
            lines.append(f"| {step.replace('_', ' ')} | `{name}` | " + " | ".join(map(str, counts)) + " |")
    for name, case in figures["cases"].items():
        mine = [each for each in case["results"] if each["kind"] != "point"]
        if not mine:
            continue
        counts = [len(mine), sum(each["recovered"] for each in mine), sum(each["refused"] for each in mine)]
        lines.append(f"| at random | `{name}` | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


STEPS = ("open", "create", "set", "test", "publish", "roll_out", "drain", "finish", "revoke", "back")


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill rotations at every point and see them recover.")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {','.join(CASES)}")
    parser.add_argument("--points", default="", metavar="REGEX", help="only points whose label and mode match")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="only N points of each case, spread evenly")
    parser.add_argument("--random", type=int, default=len(SEEDS), metavar="N", help="how many random kills (200)")
    parser.add_argument("--lanes", type=int, default=LANES, metavar="N", help=f"stacks side by side ({LANES})")
    parser.add_argument("--output", type=Path, default=FIGURES)
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/reliability.md and end")
    options = parser.parse_args()
    if options.markdown:
        print(markdown(json.loads(options.output.read_text())))
        return 0
    for name in options.cases.split(","):
        if name not in CASES:
            parser.error(f"unknown case {name}; there are {', '.join(CASES)}")
    harness.end_on_signals()
    began = time.monotonic()
    cases = [CASES[name] for name in options.cases.split(",")]
    matrix = Matrix(cases, Selection(options.points, options.sample, SEEDS[: options.random]), options.lanes)
    try:
        matrix.run()
    except (Exception, KeyboardInterrupt) as error:  # what was measured until then is kept
        matrix.problems.append(f"STOPPED by {type(error).__name__}: {error}")
    figures = {**matrix.figures(), "seconds": round(time.monotonic() - began)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"\n{summary(figures)}\n{figures['seconds'] / 60:.1f} min; figures: {os.path.relpath(options.output, ROOT)}")
    return 0 if is_good(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
