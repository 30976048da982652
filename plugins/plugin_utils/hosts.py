# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of one deployment, as the one action plugin that works for all of them reaches them."""

from __future__ import annotations

import contextvars
import copy
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible.executor.task_executor import TaskExecutor
from ansible.playbook.play_context import PlayContext
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

COLLECTION = "chat4all.secrets"
STATE_FOLDER = ".chat4all"
# What says of each host where its part of the deployment is; by the action's argument.
OWN = {
    "project_dir": "secrets_project_dir",
    "compose_files": "secrets_compose_files",
    "env_file": "secrets_env_file",
    "services": "secrets_services",
}

Result = TypeVar("Result")


class Unreachable(AnsibleConnectionFailure):
    """The connection to a host is lost."""

    def __init__(self, host: str, reason: str) -> None:
        self.host, self.reason = host, " ".join(reason.split())
        super().__init__(f"{host} unreachable: {self.reason}")
        # What else went wrong meanwhile.
        self.others: list[BaseException] = []


class Host:
    """One host of the deployment: where its part of it is, and how modules are run there."""

    def __init__(
        self,
        name: str,
        action: ActionBase,
        task_vars: dict[str, Any],
        arguments: dict[str, Any],
        spread: bool = False,
    ) -> None:
        self.name = name
        self.action = action
        self.task_vars = task_vars
        self.arguments = arguments
        # One of several: what its modules say is said of it.
        self.spread = spread

    @property
    def state_dir(self) -> str:
        """Where it remembers what was done on it."""
        return os.path.join(self.arguments["project_dir"], STATE_FOLDER)

    def project(self) -> dict[str, Any]:
        """Return the options by which modules are told its Compose project."""
        return {key: self.arguments.get(key) for key in ("project_dir", "compose_files", "env_file")}

    def beside(self) -> Host:
        """Return the same host for whoever uses it while a module works there."""
        action = copy.copy(self.action)
        action._connection = copy.copy(self.action._connection)
        return Host(self.name, action, self.task_vars, self.arguments, self.spread)

    def require_discretion(self) -> None:
        """Refuse to work where Ansible would show a module's arguments: on the target's disk, or in its own output."""
        if not self.action._is_pipelining_enabled("new"):
            raise SecretsError(
                f"{self.name}: pipelining is off, so secrets would be written to temporary files there; "
                "set ANSIBLE_PIPELINING=true (and not ANSIBLE_KEEP_REMOTE_FILES)"
            )
        if constants.DEFAULT_DEBUG:
            raise SecretsError(
                f"{self.name}: ANSIBLE_DEBUG prints the arguments of modules, secrets among them; unset it, "
                "-vvvv shows all but these"
            )

    def would(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return what a module would do: it runs in check mode, and refuses what it would refuse."""
        looking = self.beside()
        looking.action._task = copy.copy(self.action._task)
        looking.action._task.check_mode = True
        return looking.module(name, **arguments)

    def module(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run a module and return its result; its failure is raised as one line."""
        try:
            result = self.action._execute_module(
                module_name=f"{COLLECTION}.{name}",
                module_args={key: value for key, value in arguments.items() if value is not None},
                task_vars=self.task_vars,
            )
        except AnsibleConnectionFailure as error:
            raise Unreachable(self.name, str(error)) from None
        if result.get("failed"):
            details = {
                key: value for key, value in result.items() if key in ("service", "reason", "log", "foreign", "refused")
            }
            reason = self._reason(name, result)
            raise SecretsError(f"{self.name}: {reason}" if self.spread else reason, **details, host=self.name)
        return result

    @staticmethod
    def _reason(name: str, result: dict[str, Any]) -> str:
        """Return why a module failed, in one line."""
        if result.get("msg"):
            return str(result["msg"]).strip().splitlines()[0]
        # It broke instead of failing: the last line of what it left says most.
        event = getattr(result.get("exception"), "event", None)
        broken = str(getattr(event, "msg", "") or result.get("module_stderr") or result.get("exception") or "silently")
        return f"the module {name} broke: {broken.strip().splitlines()[-1]}"


def members(action: ActionBase, task_vars: dict[str, Any]) -> list[str]:
    """Return the hosts of the deployment in the inventory's order: all of the play.

    A limit that leaves one out is refused: what is published on a part of the hosts is published nowhere.
    """
    mine = str(task_vars.get("inventory_hostname", "localhost"))
    present = [str(name) for name in task_vars.get("ansible_play_hosts_all") or [mine]]
    if task_vars.get("ansible_limit"):
        inventory = task_vars["hostvars"]._inventory
        pattern = action._templar.template(action._task.get_play().hosts)
        left_out = [
            host.name
            for host in inventory.get_hosts(pattern, ignore_limits=True, ignore_restrictions=True)
            if host.name not in present
        ]
        if left_out:
            raise SecretsError(
                f"--limit leaves out {', '.join(left_out)}, and all hosts of a play are one deployment; run it without "
                "--limit, or name the deployment's group: -e secrets_hosts=GROUP"
            )
    return present


def on_host(action: ActionBase, name: str, task_vars: dict[str, Any], arguments: dict[str, Any]) -> Host:
    """Return another host of the play, reached as Ansible itself would: its own connection, become, interpreter."""
    hostvars = task_vars["hostvars"]
    variables: dict[str, Any] = {**hostvars.raw_get(name), "hostvars": hostvars}
    variables["ansible_facts"] = dict(variables.get("ansible_facts") or {})
    # A play's own variables are not among a host's.
    for variable in ("ansible_pipelining", *OWN.values()):
        if variable in task_vars and variable not in variables and variable in action._task.get_play().vars:
            variables[variable] = task_vars[variable]
    templar = Templar(loader=action._loader, variables=variables)
    other = copy.copy(action)
    other._task = copy.copy(action._task)
    other._templar = templar
    other._used_interpreter = other._discovered_interpreter = None
    other._discovered_interpreter_key = ""
    other._play_context = _context(action, name, task_vars, variables, templar)
    # Ansible has no public way to reach a second host from an action; this is its own, without the task around it.
    executor = TaskExecutor.__new__(TaskExecutor)
    executor._task, executor._play_context, executor._new_stdin = other._task, other._play_context, None
    executor._loader, executor._shared_loader_obj = action._loader, action._shared_loader_obj
    kind = variables.get("ansible_connection") or action._task.connection
    executor._connection = executor._get_connection(variables, templar, templar.template(kind))
    executor._set_connection_options(variables, templar)
    other._connection = executor._connection
    own = {
        key: templar.template(variables[variable]) if variable in variables else arguments.get(key)
        for key, variable in OWN.items()
    }
    return Host(name, other, variables, {**arguments, **own}, spread=True)


def _context(
    action: ActionBase, name: str, task_vars: dict[str, Any], variables: dict[str, Any], templar: Templar
) -> PlayContext:
    """Return the play's settings for another host, without what the first one's variables have made of them."""
    context, plain = action._play_context.copy(), PlayContext()
    for setting, names in constants.MAGIC_VARIABLE_MAPPING.items():
        if any(variable in task_vars for variable in names) and hasattr(plain, setting):
            setattr(context, setting, getattr(plain, setting))
    address = task_vars["hostvars"]._inventory.get_host(name).address
    context.remote_addr, context.port = address, plain.port
    context = context.set_task_and_variable_override(task=action._task, variables=variables, templar=templar)
    context.post_validate(templar=templar)
    context.remote_addr = context.remote_addr or address
    return context


def everywhere(hosts: Iterable[Host], work: Callable[[Host], Result], at_once: int = 16) -> list[Result]:
    """Have the work done on all hosts, several at the same time, and return what came of it in their order.

    What was begun is done before the first error is raised; a lost host comes before all else, and says what else went wrong.
    """
    chosen = list(hosts)
    if len(chosen) == 1:
        return [work(chosen[0])]
    with ThreadPoolExecutor(max_workers=max(1, min(at_once, len(chosen)))) as pool:
        begun: list[Future[Result]] = [pool.submit(contextvars.copy_context().run, work, host) for host in chosen]
    errors = [error for one in begun if (error := one.exception())]
    errors.sort(key=lambda found: not isinstance(found, Unreachable))
    if errors and isinstance(errors[0], Unreachable):
        # Nothing comes after a lost host that would show what has failed on the others.
        lost = Unreachable(errors[0].host, "; and ".join([errors[0].reason, *map(str, errors[1:])]))
        lost.others = errors[1:]
        raise lost
    for error in errors:
        raise error
    return [one.result() for one in begun]
