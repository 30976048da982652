# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark of docs/benchmarks.md: ``python tests/benchmarks/rotation.py [--rotations N] [--rounds N] [--arms A]``.

Ours rotates N times in a row under load. Then come rounds in which each arm rotates once, on a stack of its own while
the others are paused, so that the noise of the machine hits all alike: times are compared within these rounds alone.
The figures go to ``build/benchmark/rotation.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arms import ARMS, AlternatingUsers, Arm
from harness import BUILD, ROOT, BenchmarkError, Deployment, Result, brief, end_on_signals
from report import BEYOND_STARTUP, CONSUMERS, PLAIN, announced, arms_table, figure, promised
from stack import StackError

FIGURES = BUILD / "benchmark" / "rotation.json"
OURS = AlternatingUsers.name
# Every second, the health checks of twelve services, twice each while they are replaced, are most of a small machine's work.
HEALTH_INTERVAL = "2s"
# Ours with twelve consumers: timed in the rounds as if it were an arm.
TWELVE = "twelve_consumers"


@dataclass
class Entry:
    """An arm with what has been measured of it."""

    arm: Arm
    result: Result = field(default_factory=Result)
    # Seconds per rotation in the rounds, where arms are compared.
    rounds: list[float] = field(default_factory=list)
    # Services that a plain "docker compose up -d" recreates.
    recreated: dict[str, list[str]] = field(default_factory=dict)
    announced: str = ""

    def figures(self) -> dict[str, Any]:
        return {
            **self.result.details(),
            "median_s": round(statistics.median(self.result.seconds), 2) if self.result.seconds else None,
            "round_seconds": [round(each, 2) for each in self.rounds],
            "recreated_by_next_up": len(self.recreated.get("after_rotation", [])),
            "recreated_services": self.recreated,
        }


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


class Benchmark:
    """All stacks, and the figures as they come in."""

    def __init__(self, names: list[str], rotations: int, rounds: int) -> None:
        self.names, self.rotations, self.rounds = names, rotations, rounds
        self.entries: dict[str, Entry] = {}
        self.startup: list[float] = []

    def run(self) -> None:
        with ExitStack() as stacks:
            for name in self.names:
                self._set_up(name, stacks)
            if OURS in self.entries and self.rotations:
                self._measure(OURS, self.rotations, in_round=False)
            for number in range(self.rounds):
                # Each round begins with another arm.
                first = number % len(self.names)
                for name in self.names[first:] + self.names[:first]:
                    self._measure(name, 1, in_round=True)
                self._start_ansible()
            for name in self.names:
                self._wind_up(name)

    def _set_up(self, name: str, stacks: ExitStack) -> None:
        consumers, kind = (12, AlternatingUsers) if name == TWELVE else (3, ARMS[name])
        project = f"bench-{name.replace('_', '-')}"
        deployment = stacks.enter_context(Deployment(project, consumers=consumers, health_interval=HEALTH_INTERVAL))
        say(f"{name}: start the stack, {consumers} consumers")
        deployment.start()
        entry = self.entries[name] = Entry(kind(deployment))
        entry.arm.prepare()
        entry.recreated["after_provisioning"] = deployment.recreated_by_up()
        if isinstance(entry.arm, AlternatingUsers):
            entry.announced = announced(entry.arm.play("rotate-db.yml", "--check"), "user-service")
        deployment.pause()

    def _measure(self, name: str, rotations: int, *, in_round: bool) -> None:
        entry = self.entries[name]
        deployment = entry.arm.deployment
        deployment.unpause()
        result = deployment.measure(entry.arm.rotate, rotations)
        deployment.pause()
        entry.result += result
        entry.rounds += result.seconds if in_round else []
        took = statistics.mean(result.seconds)
        say(
            f"{name}: {rotations} x {took:.1f} s, {result.logins.attempts:,} logins, {result.logins.refused} refused, "
            f"{result.requests.http_failures} of {result.requests.http_requests:,} requests failed"
        )

    def _start_ansible(self) -> None:
        for entry in self.entries.values():
            if isinstance(entry.arm, AlternatingUsers):
                began = time.monotonic()
                entry.arm.do_nothing()
                self.startup.append(time.monotonic() - began)
                return

    def _wind_up(self, name: str) -> None:
        entry = self.entries[name]
        if entry.result.rotations:
            entry.arm.deployment.unpause()
            entry.recreated["after_rotation"] = entry.arm.deployment.recreated_by_up()
            entry.arm.deployment.pause()

    # -- figures

    def figures(self) -> dict[str, Any]:
        startup = round(statistics.median(self.startup), 2) if self.startup else None
        consumers = {
            count: {
                **self.entries[name].figures(),
                "announced_for_direct_call": self.entries[name].announced,
            }
            for count, name in (("3", OURS), ("12", TWELVE))
            if name in self.entries
        }
        return {
            "arms": {name: entry.figures() for name, entry in self.entries.items() if name != TWELVE},
            "ansible_startup_s": startup,
            "consumers": consumers,
            "ratios": {
                BEYOND_STARTUP: self._ratio(OURS, "shell_start_first", startup),
                PLAIN: self._ratio("plain_playbook", OURS),
                CONSUMERS: self._ratio(TWELVE, OURS),
            },
            "machine": {"processors": os.cpu_count(), "load_average": os.getloadavg()},
        }

    def _ratio(self, upper: str, lower: str, less: float | None = 0.0) -> float | None:
        """Return the ratio of the median times in the rounds, ``less`` taken off the upper one first."""
        rounds = [self.entries[name].rounds if name in self.entries else [] for name in (upper, lower)]
        if not all(rounds) or less is None:
            return None
        return round((statistics.median(rounds[0]) - less) / statistics.median(rounds[1]), 2)


def table(figures: dict[str, Any]) -> str:
    lines = [arms_table(figures["arms"]), ""]
    for count, each in figures["consumers"].items():
        refused, failed = each["refused_logins"], each["http_failures"]
        row = f"{figure(each['median_s'])} s per rotation, {refused} refused logins, {failed} failed requests"
        lines.append(f"{count + ' consumers':<15}{row}")
        row = f"direct calls: {each['direct_failures']} of {each['direct_calls']:,} failed"
        lines.append(f"{'':<15}{row}; --check had announced: {each['announced_for_direct_call']}")
    lines.append(f"{'Ansible':<15}{figure(figures['ansible_startup_s'])} s to start and do nothing")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the rotation of a PostgreSQL credential under load.")
    every = [*ARMS, TWELVE]
    parser.add_argument("--rotations", type=int, default=20, help="of ours in a row (20)")
    parser.add_argument("--rounds", type=int, default=4, help="in which each arm rotates once (4)")
    parser.add_argument("--arms", default=",".join(every), help=f"of {','.join(every)}")
    parser.add_argument("--output", type=Path, default=FIGURES)
    options = parser.parse_args()
    names = options.arms.split(",")
    for name in names:
        if name not in every:
            parser.error(f"unknown arm {name}; there are {', '.join(every)}")
    end_on_signals()
    began = time.monotonic()
    benchmark = Benchmark(names, options.rotations, options.rounds)
    try:
        benchmark.run()
    except (BenchmarkError, StackError) as error:
        print(f"BENCHMARK FAILED  {brief(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Benchmark interrupted; its containers are removed.", file=sys.stderr)
        return 130
    figures = benchmark.figures()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\n{table(figures)}\n")
    promises = promised(figures, options.rotations)
    for text, kept in promises:
        print(f"{'ok ' if kept else 'NOT'}  {text}")
    say(f"{(time.monotonic() - began) / 60:.1f} min; figures: {os.path.relpath(options.output, ROOT)}")
    return 0 if all(kept for _text, kept in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
