# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replace stale containers in waves, each new one verified before its old one goes.

There is no memory of an earlier run: what is stale, fresh, half-made or left over is read from the containers, so that a rerun
after a crash does what is left.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container, Project
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write
from ansible_collections.chat4all.secrets.plugins.module_utils.logs import DEFAULT_FAILURES, LogWatch, masked_log, patterns
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.state import make_folder

POLL = 0.25
# Beyond the container's own stop_grace_period, which the engine enforces.
STOP_TIMEOUT = 300


@dataclass
class Settings:
    """How to roll: seconds, and which services may be touched."""

    services: Sequence[str]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parallel: int = 12
    timeout: float = 120
    quiet: float = 1
    settle: float = 1
    failure_log: Sequence[str] = ()
    accept_weak: bool = False
    log_dir: str | None = None
    progress: str | None = None

    def of(self, service: str) -> Mapping[str, Any]:
        return self.options.get(service) or {}


@dataclass
class Replacement:
    """One service on its way from stale to fresh."""

    service: str
    mode: str
    stale: list[Container]
    fresh: list[Container]
    began: float = 0.0
    stopped_at: float = 0.0
    gap: float = 0.0
    seconds: float = 0.0
    new: list[Container] = field(default_factory=list)
    scale: int = 1


class Failure(Exception):
    """A new container did not come up."""

    def __init__(self, service: str, container: Container | None, reason: str) -> None:
        super().__init__(reason)
        self.service, self.container, self.reason = service, container, reason


class Rollout:
    """Brings the services of a project to their present configuration."""

    def __init__(self, project: Project, settings: Settings, masker: Masker) -> None:
        self.project, self.settings, self.masker = project, settings, masker
        self.docker = project.docker
        unknown = sorted(set(settings.services) - set(project.services))
        if unknown:
            raise SecretsError(f"{unknown[0]}: no such service in {project.directory}")
        self.failures = patterns([*DEFAULT_FAILURES, *settings.failure_log], "failure_log")

    def plan(self) -> list[list[Replacement]]:
        """Return what is left to do, in waves."""
        hashes, containers = self.project.hashes(), self.project.containers(self.settings.services)
        waves = []
        for wave in self.project.waves(self.settings.services):
            row = []
            for name in wave:
                mine = [container for container in containers if container.service == name]
                fresh = [container for container in mine if container.config_hash == hashes.get(name)]
                stale = [container for container in mine if container.config_hash != hashes.get(name)]
                mode, _reason = self.project.replace_mode(name, self.settings.of(name))
                self._check_evidence(name)
                half_made = [container for container in fresh if container.status == "created"]
                unready = mode == "job" and any(container.exit_code for container in fresh)
                if stale or half_made or unready:
                    row.append(Replacement(name, mode, stale, fresh))
            if row:
                waves.append(row)
        return waves

    def run(self, waves: Sequence[Sequence[Replacement]]) -> dict[str, Any]:
        """Carry the plan out. Raises :class:`SecretsError` when a service does not come up; its old containers still run."""
        began, done = time.monotonic(), []
        for wave in waves:
            size = max(1, self.settings.parallel)
            for start in range(0, len(wave), size):
                batch = wave[start : start + size]
                try:
                    self._wave(batch)
                except Failure as failure:
                    raise self._failed(batch, failure, time.monotonic() - began) from None
                done += batch
        left = [service for service, _change in self.project.pending_changes() if service in self.settings.services]
        if left:
            raise SecretsError(f"docker compose up -d would still recreate {', '.join(left)} after the roll-out")
        return {
            "changed": bool(done),
            "services": {item.service: self._outcome(item) for item in done},
            "addresses": {
                address: container.service
                for container in self.project.containers()
                for address in container.addresses.values()
                if address
            },
            "seconds": round(time.monotonic() - began, 1),
        }

    def _check_evidence(self, name: str) -> None:
        if not self.settings.accept_weak and self.project.evidence(name, self.settings.of(name)) == "none":
            raise SecretsError(f"{name}: has neither health check nor ready_log; give one, or set accept_weak")

    # -- one wave

    def _wave(self, batch: list[Replacement]) -> None:
        for item in batch:
            item.began = time.monotonic()
        jobs = [item for item in batch if item.mode == "job"]
        first = [item for item in batch if item.mode == "start_first"]
        stopped = [item for item in batch if item.mode == "stop_first"]
        for item in jobs:
            self._run_job(item)
        self._start_first(first)
        for item in stopped:
            self._stop_first(item)

    def _run_job(self, item: Replacement) -> None:
        self._remove([*item.stale, *item.fresh])
        self.project.compose("create", "--no-recreate", item.service)
        for container in self.project.containers([item.service]):
            item.new.append(container)
            self._start(item.service, [container])
            with self._watch(container, item.service) as watch:
                code = self.docker.run("wait", container.id, timeout=self._timeout(item.service)).stdout.strip()
                verdict = watch.finish()
            if code != "0":
                raise Failure(item.service, container, verdict.line or f"exit code {code}")
        self._progress(item, f"{item.service} ran again, exit code 0 ({self._took(item)})")

    def _start_first(self, batch: list[Replacement]) -> None:
        if not batch:
            return
        for item in batch:
            # A container that was made and never started may be half-made; one that has ended did not come up.
            self._remove([container for container in item.fresh if not container.running])
            item.fresh = [container for container in item.fresh if container.running]
            running = [container for container in item.stale if container.running]
            item.scale = max(len(running), len(item.fresh))
        live = [item for item in batch if item.scale]
        if live:
            known = {container.id for container in self.project.containers([item.service for item in live])}
            scales = []
            for item in live:
                scales += ["--scale", f"{item.service}={item.scale + len(item.stale)}"]
            self.project.compose("create", "--no-recreate", *scales, *[item.service for item in live])
            made = [c for c in self.project.containers([item.service for item in live]) if c.id not in known]
            for item in live:
                item.new = [container for container in made if container.service == item.service]
            self._start_and_verify([(item, [*item.fresh, *item.new]) for item in live])
            for item in live:
                self._after(item)
            time.sleep(self.settings.settle)
        self._stop_all([container for item in batch for container in item.stale])
        for item in batch:
            if item.scale:
                count = f"{item.scale}/{item.scale}"
                self._progress(item, f"{item.service} {count} healthy on new, old removed ({self._took(item)})")
            else:
                # It was not running: it must not come back with the old value, and is not started either.
                self.project.compose("create", "--no-recreate", item.service)
                self._progress(item, f"{item.service} was not running: made anew, not started")

    def _stop_first(self, item: Replacement) -> None:
        item.scale = len(item.stale) + len(item.fresh)
        if item.stale:
            self._remove([container for container in item.fresh if container.status == "created"])
            running = [container for container in item.stale if container.running]
            item.stopped_at = time.monotonic()
            if running:
                self.docker.run("stop", *[container.id for container in running], timeout=STOP_TIMEOUT)
            # Compose removes the old container itself, and hands its anonymous volumes to the new one.
            self.project.compose("create", "--scale", f"{item.service}={item.scale}", item.service, timeout=STOP_TIMEOUT)
        item.new = [container for container in self.project.containers([item.service]) if container.status == "created"]
        self._start_and_verify([(item, item.new)])
        if item.stopped_at:
            # Until it worked again; the quiet time that followed was no gap.
            item.gap = time.monotonic() - item.stopped_at - self.settings.quiet
        self._after(item)
        self._progress(item, f"{item.service} replaced, gap {item.gap:.1f} s")

    def _start_and_verify(self, items: list[tuple[Replacement, list[Container]]]) -> None:
        """Start the new containers of a wave, and wait for all of them together."""
        waiting: dict[str, tuple[Replacement, Container]] = {}
        with contextlib.ExitStack() as stack:
            watches: dict[str, LogWatch] = {}
            started = [container for item, _all in items for container in item.new]
            ids = [container.id for container in started]
            if ids:
                self._start(items[0][0].service, started)
            for item, containers in items:
                for container in containers:
                    waiting[container.id] = (item, container)
                    if container.id in ids:
                        watches[container.id] = stack.enter_context(self._watch(container, item.service))
            deadlines = {
                container_id: time.monotonic() + self._timeout(item.service)
                for container_id, (item, _container) in waiting.items()
            }
            ready: dict[str, float] = {}
            while True:
                self._look(waiting, watches, ready)
                if len(ready) == len(waiting) and time.monotonic() >= max(ready.values(), default=0) + self.settings.quiet:
                    return
                late = [i for i in waiting if i not in ready and time.monotonic() > deadlines[i]]
                if late:
                    item, container = waiting[late[0]]
                    raise Failure(item.service, container, f"not ready within {self._timeout(item.service):g} s")
                time.sleep(POLL)

    def _look(
        self,
        waiting: Mapping[str, tuple[Replacement, Container]],
        watches: Mapping[str, LogWatch],
        ready: dict[str, float],
    ) -> None:
        """Look once at every container of the wave; note which are ready, raise when one has failed."""
        if not waiting:
            return
        inspected = json.loads(self.docker.run("inspect", *waiting, check=False).stdout or "[]")
        states = {data["Id"]: Container.from_inspect(data) for data in inspected}
        for container_id, (item, container) in waiting.items():
            state = states.get(container_id)
            verdict = watches[container_id].poll() if container_id in watches else None
            if verdict and verdict.status == "failed":
                raise Failure(item.service, container, f'log says "{verdict.line}"')
            if state is None or not state.running or state.restarting:
                if verdict:
                    verdict = watches[container_id].finish()
                said = f': "{verdict.line}"' if verdict and verdict.status == "failed" else ""
                what = "restarts" if state and state.restarting else f"exited with code {state.exit_code if state else '?'}"
                raise Failure(item.service, container, what + said)
            if state.health == "unhealthy":
                raise Failure(item.service, container, "its health check says unhealthy")
            needs_log = bool(self.settings.of(item.service).get("ready_log")) and container_id in watches
            if state.health in (None, "healthy") and (not needs_log or (verdict and verdict.status == "matched")):
                ready.setdefault(container_id, time.monotonic())

    # -- small parts

    def _start(self, service: str, containers: Sequence[Container]) -> None:
        try:
            self.docker.run("start", *[container.id for container in containers])
        except SecretsError as error:
            raise Failure(service, containers[0], error.message) from None

    def _watch(self, container: Container, service: str) -> LogWatch:
        given = self.settings.of(service)
        success = patterns([given["ready_log"]] if given.get("ready_log") else [], f"secrets_services.{service}.ready_log")
        extra = patterns(given.get("failure_log") or [], f"secrets_services.{service}.failure_log")
        return LogWatch(self.docker, container.id, success, [*self.failures, *extra], self.masker)

    def _timeout(self, service: str) -> float:
        return float(self.settings.of(service).get("timeout") or self.settings.timeout)

    def _after(self, item: Replacement) -> None:
        after = self.settings.of(item.service).get("after")
        if not after:
            return
        if not after.get("service") or not after.get("exec"):
            raise SecretsError(f"secrets_services.{item.service}.after: needs service and exec")
        for container in self.project.containers([after["service"]]):
            if container.running:
                self.docker.run("exec", container.id, *shlex.split(after["exec"]))

    def _stop_all(self, containers: Sequence[Container]) -> None:
        """Stop old containers beside one another, each within its own grace period, and remove them."""
        running = [container.id for container in containers if container.running]
        if running:
            with ThreadPoolExecutor(max_workers=len(running)) as pool:
                list(pool.map(lambda one: self.docker.run("stop", one, timeout=STOP_TIMEOUT), running))
        self._remove(containers)

    def _remove(self, containers: Sequence[Container]) -> None:
        if containers:
            self.docker.run("rm", "--force", *[container.id for container in containers])

    def _failed(self, batch: Sequence[Replacement], failure: Failure, seconds: float) -> SecretsError:
        """Save the log of the container that failed, remove what is new of its wave, and return the error to raise."""
        log = ""
        if failure.container and self.settings.log_dir:
            make_folder(self.settings.log_dir)
            log = os.path.join(self.settings.log_dir, f"{failure.service}.log")
            atomic_write(log, masked_log(self.docker, failure.container.id, self.masker).encode())
        for item in batch:
            # With an old container beside it, the new one only disturbs; without, it is all there is.
            if item.mode == "start_first" and any(container.running for container in item.stale):
                self._remove(item.new)
        reason = self.masker.mask(failure.reason)
        return SecretsError(
            f"{failure.service} failed: {reason} ({seconds:.0f} s)", service=failure.service, reason=reason, log=log
        )

    def _took(self, item: Replacement) -> str:
        return f"{time.monotonic() - item.began:.0f} s"

    def _progress(self, item: Replacement, text: str) -> None:
        item.seconds = time.monotonic() - item.began
        if not self.settings.progress:
            return
        make_folder(os.path.dirname(self.settings.progress))
        row = {"t": datetime.datetime.now(datetime.timezone.utc).isoformat(), "service": item.service, "text": text}
        with open(self.settings.progress, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    @staticmethod
    def _outcome(item: Replacement) -> dict[str, Any]:
        return {
            "mode": item.mode,
            "replaced": len(item.stale),
            "seconds": round(item.seconds, 1),
            "gap_s": round(item.gap, 2),
            "new": [container.name for container in item.new],
        }
