# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replace stale containers in waves, each new one verified before its old one goes.

What is stale, fresh, half-made or left over is read from the containers, so that a rerun after a crash does what is
left. One thing cannot be read there: whether a service of which nothing runs was stopped by its owner, or by us on its
way to the new container. The :class:`Journal` remembers it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.catalog import objections
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container, Project, by_address
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import ServiceOptions
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write, read_plain_file
from ansible_collections.chat4all.secrets.plugins.module_utils.logs import (
    DEFAULT_FAILURES,
    LogWatch,
    masked_log,
    patterns,
    run_began,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.state import make_folder

# Seconds between two looks; one look is one `docker inspect` for all containers of the wave.
POLL = 0.25
# Containers that are started at the same time; the engine works in vain on more.
STARTS = 4
# Seconds that a command may take beyond what the containers themselves were given.
MARGIN = 120
# Compose's name for a container that is to take another one's place, until that one is gone.
INTERIM_NAME = re.compile(r"[0-9a-f]{12}_(.+)")


@dataclass
class Settings:
    """How to roll: seconds, and which services may be touched."""

    services: Sequence[str]
    options: Mapping[str, ServiceOptions] = field(default_factory=dict)
    parallel: int = 16
    timeout: float = 120
    quiet: float = 1
    settle: float = 1
    failure_log: Sequence[str] = ()
    accept_weak: bool = False
    log_dir: str | None = None
    progress: str | None = None
    state_dir: str | None = None

    def of(self, service: str) -> ServiceOptions:
        return self.options.get(service, ServiceOptions())

    def timeout_of(self, service: str) -> float:
        return self.of(service).timeout or self.timeout


class Journal:
    """Which services must run in the end although nothing of them runs now, and how many containers of each."""

    def __init__(self, state_dir: str | None) -> None:
        self._path = os.path.join(state_dir, "rollout.json") if state_dir else None
        self.wanted: dict[str, int] = {}
        content = read_plain_file(self._path) if self._path else None
        if content:
            try:
                self.wanted = {str(name): int(count) for name, count in json.loads(content).items()}
            except (ValueError, AttributeError):
                raise SecretsError(f"{self._path}: is damaged; start what is stopped, then remove it") from None

    def add(self, wanted: Mapping[str, int]) -> None:
        self._write({**self.wanted, **wanted})

    def drop(self, names: Iterable[str]) -> None:
        names = set(names)
        self._write({name: count for name, count in self.wanted.items() if name not in names})

    def _write(self, wanted: dict[str, int]) -> None:
        if wanted != self.wanted and self._path:
            make_folder(os.path.dirname(self._path))
            atomic_write(self._path, json.dumps(wanted).encode())
        self.wanted = wanted


@dataclass
class Replacement:
    """One service on its way from stale to fresh; ``mode``: ``start_first``, ``stop_first``, ``job``, ``stopped``."""

    service: str
    mode: str
    reason: str
    evidence: str
    # How many containers shall run.
    want: int
    stale: list[Container]
    fresh: list[Container]
    # Names of the containers that run in the end.
    new: list[str] = field(default_factory=list)
    began: float = 0.0
    # When the old one was told to stop, by the wall clock; only where that comes first.
    stopped: float = 0.0
    gap: float = 0.0
    seconds: float = 0.0


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
            known = ", ".join(sorted(project.services))
            raise SecretsError(f"{unknown[0]}: no such service in {project.directory}; there are {known}")
        self.failures = patterns([*DEFAULT_FAILURES, *settings.failure_log], "failure_log")
        self.success = {
            name: patterns([given.ready_log], f"secrets_services.{name}.ready_log")
            for name, given in settings.options.items()
            if given.ready_log
        }
        self.own_failures = {
            name: patterns(given.failure_log, f"secrets_services.{name}.failure_log")
            for name, given in settings.options.items()
        }
        self.afters = {name: given.after for name, given in settings.options.items() if given.after}
        self.journal = Journal(settings.state_dir)
        self.not_running: list[str] = []
        # The batch whose old containers are on their way out.
        self._leaving: Sequence[Replacement] = ()
        self._stopping: Future[None] | None = None

    # -- what there is to do

    def plan(self) -> list[list[Replacement]]:
        """Return what is left to do, in waves; raises for what must not be begun. Touches nothing."""
        containers = self.project.containers(self.settings.services)
        stale = self.project.stale(containers)
        self.not_running, waves = [], []
        for wave in self.project.waves(self.settings.services):
            row = [self._replacement(name, [one for one in containers if one.service == name], stale) for name in wave]
            left = [item for item in row if item]
            for item in left:
                self._refuse(item)
            if left:
                waves.append(left)
        return waves

    def _replacement(self, name: str, mine: Sequence[Container], stale_ids: set[str]) -> Replacement | None:
        """Return what is to be done for one service; ``None`` where there is nothing."""
        stale = [container for container in mine if container.id in stale_ids]
        fresh = [container for container in mine if container.id not in stale_ids]
        wanted = self.journal.wanted.get(name, 0)
        half_made = any(INTERIM_NAME.fullmatch(container.name) for container in fresh)
        if self.project.services[name].is_job:
            undone = wanted or stale or any(one.status != "exited" or one.exit_code for one in fresh)
            if not mine and not wanted:
                self.not_running.append(name)
            return (
                Replacement(name, "job", "others wait for it to end", "exit code 0", 1, stale, fresh)
                if undone
                else None
            )
        # After a crash as many run on the old value, or on the new one, or on one between them, as there are to be.
        running = Counter((one.id in stale_ids, one.config_hash) for one in mine if one.running)
        want = wanted or max(running.values(), default=0)
        if not want:
            self.not_running.append(name)
            return (
                Replacement(name, "stopped", "was not running", "none", 0, stale, fresh) if stale or half_made else None
            )
        created = any(container.status == "created" for container in fresh)
        if not stale and not half_made and not created and sum(one.running for one in fresh) >= want:
            return None
        given = self.settings.of(name)
        mode, reason = self.project.replace_mode(name, given.replace)
        return Replacement(name, mode, reason, self.project.evidence(name, given.ready_log), want, stale, fresh)

    def _refuse(self, item: Replacement) -> None:
        name = item.service
        for container in [*item.stale, *item.fresh]:
            if container.status == "paused":
                raise SecretsError(f"{name}: {container.name} is paused; unpause or stop it first")
        if item.mode == "job" and any(container.running for container in item.stale):
            raise SecretsError(f"{name}: the job is running now; run this again when it has ended")
        # What was stopped is not started, and a job without a stale container has only been interrupted.
        if item.mode == "stopped" or (item.mode == "job" and not item.stale):
            return
        given = self.settings.of(name)
        for objection in objections(self.project, name, item.mode, item.reason, item.evidence, given):
            if objection["kind"] != "weak" or not self.settings.accept_weak:
                raise SecretsError(objection["text"])

    def outline(self, waves: Sequence[Sequence[Replacement]]) -> dict[str, Any]:
        """Return what :meth:`run` would return of the plan."""
        return {"changed": bool(waves), "services": {item.service: _outcome(item) for wave in waves for item in wave}}

    # -- doing it

    def run(self, waves: Sequence[Sequence[Replacement]]) -> dict[str, Any]:
        """Carry the plan out. Raises :class:`SecretsError` when a service does not come up.

        Where a service is replaced start-first, its old containers then still run.
        """
        began = time.monotonic()
        size = max(1, self.settings.parallel)
        with ThreadPoolExecutor(max_workers=1) as self._background:
            try:
                for wave in waves:
                    for start in range(0, len(wave), size):
                        self._wave(wave[start : start + size])
            except BaseException:
                # The failure is what has to be told.
                with contextlib.suppress(SecretsError):
                    self._see_gone()
                raise
            self._see_gone()
        # Services that run again for another reason than ours are no longer waited for.
        self.journal.drop(self.settings.services)
        left = self._left_over() if waves else []
        if left:
            raise SecretsError(f"docker compose up -d would still recreate {', '.join(left)} after the roll-out")
        return {
            **self.outline(waves),
            "addresses": by_address(self.project.containers()),
            "seconds": round(time.monotonic() - began, 1),
        }

    def _left_over(self) -> list[str]:
        """Return which of the services a plain ``docker compose up -d`` would recreate."""
        pending = {service for service, change in self.project.pending_changes() if change == "recreate"}
        return sorted(pending & set(self.settings.services))

    def _wave(self, batch: Sequence[Replacement]) -> None:
        for item in batch:
            item.began = time.monotonic()
        beside = [item for item in batch if item.mode in ("start_first", "job")]
        instead = [item for item in batch if item.mode == "stop_first"]
        if any(item.mode != "start_first" for item in batch):
            # Compose would see the old containers of what these depend on.
            self._see_gone()
        if beside:
            with self._saving_logs(beside):
                self._start_first([item for item in beside if item.mode == "start_first"], self._renew_jobs(beside))
        if instead:
            with self._saving_logs(instead):
                self._stop_first(instead)
        for item in batch:
            if item.mode == "stopped":
                self._renew_stopped(item)

    def _renew_jobs(self, batch: Sequence[Replacement]) -> list[Replacement]:
        """Have a new container for each job, or the one that an interrupted run has made or started."""
        jobs = [item for item in batch if item.mode == "job"]
        self.journal.add({item.service: 1 for item in jobs})
        usable = {"created", "running"}
        self._recreate([item for item in jobs if item.stale or not usable & {one.status for one in item.fresh}])
        self._find_new(jobs)
        return jobs

    def _start_first(self, batch: Sequence[Replacement], jobs: Sequence[Replacement]) -> None:
        """Make and verify the new containers beside the old ones; jobs of the wave run meanwhile."""
        if batch:
            left, scale = [], {}
            for item in batch:
                # Made and never started, ended, or unhealthy: it has not come up in an earlier run.
                unfit = [one for one in item.fresh if not one.running or (item.stale and one.health == "unhealthy")]
                left += unfit
                scale[item.service] = max(item.want, len(item.fresh) - len(unfit)) + len(item.stale)
            self._remove(left, volumes=True)
            self.project.create(scale, scale, "--no-recreate", timeout=MARGIN)
            self._find_new(batch)
        ready = self._start_and_verify([*batch, *jobs])
        self.journal.drop([item.service for item in [*batch, *jobs]])
        for item in jobs:
            self._progress(item, f"{item.service} ran again: exit code 0 ({_took(item)})")
        ready = self._after(batch) or ready
        if any(container.running for item in batch for container in item.stale):
            time.sleep(max(0.0, ready + self.settings.settle - time.monotonic()))
        self._see_gone()
        self._leaving = batch
        self._stopping = self._background.submit(self._stop, [container for item in batch for container in item.stale])
        if any(item.service in self.afters for item in batch):
            self._see_gone()
            # What had found the new container may know the old one's address, which the next container may be given.
            self._after(batch)

    def _see_gone(self) -> None:
        """Remove the old containers of the last batch, which have been told to stop, once they have stopped.

        They stop while the next batch begins: nothing waits for what is on its way out.
        """
        if not self._stopping:
            return
        self._stopping.result()
        self._remove([container for item in self._leaving for container in item.stale])
        for item in self._leaving:
            count = f"{len(item.fresh)}/{item.want}"
            self._progress(item, f"{item.service} {count} healthy on new, old removed ({_took(item)})")
        self._leaving, self._stopping = (), None

    def _stop_first(self, batch: Sequence[Replacement]) -> None:
        self.journal.add({item.service: item.want for item in batch})
        usable = {"created", "running"}
        renew = [item for item in batch if item.stale or {one.status for one in item.fresh} - usable]
        self._remove([one for item in renew if item.stale for one in item.fresh if not one.running])
        self._recreate(renew)
        few = {item.service: item.want for item in batch if item not in renew and len(item.fresh) < item.want}
        if few:
            self.project.create(few, few, "--no-recreate", timeout=MARGIN)
        self._find_new(batch)
        for item in batch:
            # Compose makes the new container just before it stops the old one.
            made = [container.created for container in item.fresh if not container.running]
            item.stopped = min([item.stopped or time.time(), *made])
        self._start_and_verify(batch)
        self.journal.drop([item.service for item in batch])
        self._after(batch)
        for item in batch:
            self._progress(item, f"{item.service} replaced, gap {item.gap:.1f} s")

    def _renew_stopped(self, item: Replacement) -> None:
        """What its owner has stopped stays stopped, but must not come back with the old value."""
        if item.stale:
            self._recreate([item])
        self._find_new([item])
        self._progress(item, f"{item.service} was not running: made anew, not started")

    def _recreate(self, batch: Sequence[Replacement]) -> None:
        """Have Compose put new containers, not started yet, in the place of the old ones."""
        if not batch:
            return
        scale = {item.service: item.want or len(item.stale) for item in batch}
        old = [container for item in batch for container in item.stale]
        limit = MARGIN + max((container.stop_grace for container in old), default=0)
        dry_run = self.project.create(scale, scale, "--dry-run", "--force-recreate", check=False)
        changes = self.project.announced(dry_run, self.project.containers(self.project.needed_by(scale)))
        others = sorted({service for service, change in changes if change == "recreate"} - set(scale))
        if others:
            # What these depend on was to stay stale; without the old containers nothing is left for Compose to
            # recreate.
            for container in old:
                if container.anonymous_volumes:
                    raise SecretsError(
                        f"{container.service}: Compose would recreate {', '.join(others)} with it, and only Compose "
                        "can hand on "
                        f"{container.name}'s anonymous volume; replace {', '.join(others)} too"
                    )
            for item in batch:
                item.stopped = time.time() if item.mode == "stop_first" else 0.0
            self._retire(old)
        # It stops and removes the old ones itself, and hands their anonymous volumes to the new ones.
        flag = "--no-recreate" if others else "--force-recreate"
        self.project.create(scale, scale, flag, timeout=limit)

    def _find_new(self, batch: Sequence[Replacement]) -> None:
        """Look up the containers that are to run, and give a half-made one its proper name."""
        gone = {container.id for item in batch for container in item.stale}
        found = self.project.containers([item.service for item in batch])
        for item in batch:
            item.fresh = [one for one in found if one.service == item.service and one.id not in gone]
            for index, container in enumerate(item.fresh):
                interim = INTERIM_NAME.fullmatch(container.name)
                if interim:
                    self.docker.run("rename", container.id, interim.group(1))
                    item.fresh[index] = self.project.inspect([container.id])[0]
            item.new = [container.name for container in item.fresh]

    # -- verification

    def _start_and_verify(self, batch: Sequence[Replacement]) -> float:
        """Start what does not run yet, and wait until all of it has shown for ``quiet`` seconds that it works.

        Returns since when (by the monotonic clock) all of it was ready.
        """
        items = {container.id: (item, container) for item in batch for container in item.fresh}
        self._start([entry for entry in items.values() if not entry[1].running])
        with contextlib.ExitStack() as stack:
            watches = {
                container.id: stack.enter_context(self._watch(item.service, container))
                for item, container in items.values()
            }
            began = time.monotonic()
            restarts = {container.id: container.restarts for _item, container in items.values()}
            ready: dict[str, float] = {}
            while True:
                states = {container.id: container for container in self.project.inspect(items)}
                for identity, (item, container) in items.items():
                    state = states.get(identity)
                    if self._is_ready(item, container, state, watches[identity], restarts[identity]):
                        if identity not in ready and item.stopped:
                            item.gap = max(item.gap, time.time() - item.stopped)
                        ready.setdefault(identity, time.monotonic())
                    elif identity not in ready and time.monotonic() - began > self.settings.timeout_of(item.service):
                        raise Failure(
                            item.service, container, f"not ready within {self.settings.timeout_of(item.service):g} s"
                        )
                # A job that has ended cannot fail any more.
                last = max(
                    (at for one, at in ready.items() if items[one][0].mode != "job"), default=-self.settings.quiet
                )
                if len(ready) == len(items) and time.monotonic() >= last + self.settings.quiet:
                    break
                time.sleep(POLL)
        return max(ready.values(), default=0.0)

    def _is_ready(
        self, item: Replacement, container: Container, state: Container | None, watch: LogWatch, restarts: int
    ) -> bool:
        """Tell whether a new container works; raises :class:`Failure` when it never will."""
        ended = state is None or not state.running or state.restarting or state.restarts > restarts
        verdict = watch.finish() if ended else watch.poll()
        if verdict.status == "failed":
            raise Failure(item.service, container, f'"{verdict.line}"')
        if ended and item.mode == "job" and state and state.status == "exited" and not state.exit_code:
            return True
        if state is None:
            raise Failure(item.service, None, f"{container.name} was removed by somebody else")
        if ended:
            what = (
                "restarts again and again"
                if state.restarting or state.restarts
                else f"ended with exit code {state.exit_code}"
            )
            raise Failure(item.service, container, what + _said(watch))
        if item.mode == "job":
            return False
        if state.health == "unhealthy":
            raise Failure(item.service, container, "its health check fails" + _said(watch))
        if item.service in self.success and verdict.status == "unreadable":
            raise Failure(item.service, container, f"its log cannot be read: {verdict.line}")
        return state.health in (None, "healthy") and (item.service not in self.success or verdict.status == "matched")

    def _start(self, entries: Sequence[tuple[Replacement, Container]]) -> None:
        def start(entry: tuple[Replacement, Container]) -> None:
            item, container = entry
            try:
                self.docker.run("start", container.id)
            except SecretsError as error:
                raise Failure(item.service, container, error.message) from None

        self._at_once(start, entries, STARTS)

    def _watch(self, service: str, container: Container) -> LogWatch:
        failures = [*self.failures, *self.own_failures.get(service, [])]
        # An earlier run of the same container does not count.
        since = (
            run_began({"StartedAt": container.started_at, "FinishedAt": container.finished_at})
            if container.running
            else ""
        )
        return LogWatch(self.docker, container.id, self.success.get(service, []), failures, self.masker, since)

    # -- the old ones

    def _after(self, batch: Sequence[Replacement]) -> float:
        """Run what was declared to follow a replacement, once however many services declare it.

        Returns when (by the monotonic clock) the last command ended; 0 where there is none.
        """
        wanted = {self.afters[item.service]: item for item in batch if item.service in self.afters}
        for after, item in wanted.items():
            for container in self.project.containers([after.service]):
                if container.running:
                    done = self.docker.run("exec", container.id, *after.command, check=False)
                    if done.returncode != 0:
                        said = self.docker.last_line(done.stderr or done.stdout)
                        reason = f"after, in {after.service}: exit code {done.returncode}: {said}"
                        raise Failure(item.service, None, reason)
        return time.monotonic() if wanted else 0.0

    def _retire(self, containers: Sequence[Container]) -> None:
        """Stop old containers, and remove them."""
        self._stop(containers)
        self._remove(containers)

    def _stop(self, containers: Sequence[Container]) -> None:
        """Stop old containers beside one another, each within its own grace period."""
        running = [container for container in containers if container.running]
        if running:
            limit = MARGIN + max(container.stop_grace for container in running)
            self.docker.run("stop", *[container.id for container in running], timeout=limit, check=False)

    def _remove(self, containers: Sequence[Container], volumes: bool = False) -> None:
        ids = [container.id for container in containers]
        if not ids:
            return
        done = self.docker.run("rm", "--force", *(["--volumes"] if volumes else []), *ids, check=False)
        if done.returncode != 0:
            left = [container.name for container in self.project.inspect(ids)]
            if left:
                raise SecretsError(f"{', '.join(left)}: cannot be removed: {self.docker.last_line(done.stderr)}")

    # -- failures

    @contextlib.contextmanager
    def _saving_logs(self, batch: Sequence[Replacement]) -> Any:
        """On a failure save the container's log, remove new containers beside which an old one runs, and say why."""
        try:
            yield
        except Exception as error:
            # Whatever it is: nobody else takes the new containers away, and the first reason is the one to show.
            besides: list[str] = []
            log = self._tried("its log could not be saved", besides, self._save_log, error)
            self._tried("new containers are left", besides, self._withdraw, batch)
            # Its cause is not handed on: Ansible would show it, unmasked.
            raise self._told(error, batch, log or "", besides) from None

    def _tried(self, trouble: str, besides: list[str], work: Callable[[Any], Any], thing: Any) -> Any:
        """Do what has to be done after a failure; what fails there is told besides."""
        try:
            return work(thing)
        except Exception as error:
            besides.append(f"{trouble}: {self._said(error)}")
            return None

    def _told(self, error: Exception, batch: Sequence[Replacement], log: str, besides: list[str]) -> SecretsError:
        """Return a failure as one masked line with its facts."""
        details: dict[str, Any] = {}
        if isinstance(error, Failure):
            took = next((time.monotonic() - item.began for item in batch if item.service == error.service), 0.0)
            reason = self.masker.mask(error.reason)
            first = f"{error.service} failed: {reason} ({took:.0f} s)"
            details = {"service": error.service, "reason": reason, "waited": round(took, 1), "log": log}
        elif isinstance(error, SecretsError):
            first, details = error.message, error.details
        else:
            first = f"the roll-out broke: {self._said(error)}"
        return SecretsError("; ".join([first, *besides]), **details)

    def _said(self, error: Exception) -> str:
        if isinstance(error, SecretsError):
            return error.message
        return f"{type(error).__name__}: {self.masker.mask(str(error)).splitlines()[0] if str(error) else 'no reason'}"

    def _save_log(self, failure: Exception) -> str:
        if not isinstance(failure, Failure) or not failure.container or not self.settings.log_dir:
            return ""
        path = os.path.join(self.settings.log_dir, f"{failure.service}.log")
        text = masked_log(self.docker, failure.container.id, self.masker)
        make_folder(self.settings.log_dir)
        atomic_write(path, text.encode("utf-8", "replace"))
        return path

    def _withdraw(self, batch: Sequence[Replacement]) -> None:
        beside = [item for item in batch if item.mode == "start_first" and any(one.running for one in item.stale)]
        old = {container.id for item in beside for container in item.stale}
        there = self.project.containers([item.service for item in beside]) if beside else []
        still = {container.service for container in there if container.id in old and container.running}
        self._remove([one for one in there if one.id not in old and one.service in still], volumes=True)
        # A job that hangs would go on with a value that is being taken back.
        jobs = [container for item in batch if item.mode == "job" for container in item.fresh]
        if jobs:
            self.docker.run("stop", *[container.id for container in jobs], timeout=MARGIN, check=False)

    # -- small parts

    def _at_once(self, work: Callable[[Any], None], things: Sequence[Any], limit: int) -> None:
        if things:
            with ThreadPoolExecutor(max_workers=min(limit, len(things))) as pool:
                list(pool.map(work, things))

    def _progress(self, item: Replacement, text: str) -> None:
        item.seconds = time.monotonic() - item.began
        if not self.settings.progress:
            return
        row = {
            "t": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "service": item.service,
            "text": text[:80],
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        # A line that nobody sees must not end a roll-out.
        with contextlib.suppress(SecretsError, OSError):
            make_folder(os.path.dirname(self.settings.progress))
            with os.fdopen(os.open(self.settings.progress, flags, 0o600), "a", encoding="utf-8") as stream:
                os.fchmod(stream.fileno(), 0o600)
                stream.write(json.dumps(row) + "\n")


def _outcome(item: Replacement) -> dict[str, Any]:
    return {
        "mode": item.mode,
        "reason": item.reason,
        "evidence": item.evidence,
        "replaced": len(item.stale),
        "seconds": round(item.seconds, 1),
        "gap_s": round(item.gap, 2),
        "new": sorted(item.new),
    }


def _said(watch: LogWatch) -> str:
    last = watch.last()
    return f': "{last[:200]}"' if last else ""


def _took(item: Replacement) -> str:
    return f"{time.monotonic() - item.began:.0f} s"
