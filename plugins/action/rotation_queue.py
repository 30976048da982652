# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import checked_catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import kind_of
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import ARGUMENTS, Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.jwt_rotation import JWT_OPTIONS
from ansible_collections.chat4all.secrets.plugins.plugin_utils.report import command
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import is_unfinished
from ansible_collections.chat4all.secrets.plugins.plugin_utils.serverless import (
    NEW_VALUES,
    new_values,
    rotation_of,
)


def with_next(deployment: Deployment, entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of tokens for which there is a new one, or the way to one; the others are told.

    A renewal that fails holds up nobody: it comes behind what was brought. Where one renews itself, a schedule does this:
    that nothing is due is no error then.
    """
    found, renewing, brought = {}, False, new_values(deployment)
    for name in brought:
        if name not in entries:
            deployment.line("open", f"{name}: is no API token; {command('rotate', rotate=name)} -e @FILE takes it")
    for name, entry in entries.items():
        rotation: Any = rotation_of(deployment, name, {})
        renewing = renewing or rotation.platform.renews
        if lacks := rotation.lacks(entry):
            deployment.line("open", f"{name}: {lacks}")
        else:
            found[name] = entry
    if not found and not renewing:
        raise SecretsError(
            f"no new token was brought; put {NEW_VALUES}: {{NAME: TOKEN}} into a file, ansible-vault encrypt FILE, and add "
            f"-e @FILE; there are {', '.join(entries) or 'no tokens in secrets_catalog'}"
        )
    return {name: found[name] for name in sorted(found, key=lambda name: name not in brought)}


def to_rotate(deployment: Deployment, arguments: dict[str, Any]) -> list[str]:
    """Return the names of the credentials to rotate; refuses what is not for all of them, before any is touched."""
    catalog, kind = checked_catalog(arguments["catalog"]), arguments["kind"]
    given = [deployment.known(name) for name in arguments["credentials"]]
    names = [name for name in given if kind in (None, kind_of(name, catalog[name]))]
    if arguments["jwt"].get("emergency"):
        check_emergency(names)
    if not names and kind != "token":
        raise SecretsError(f"nothing of the kind {kind} is among {', '.join(given)}; look at secrets_catalog")
    for name in names:
        rotation_of(deployment, name, arguments).check_options()
    return names


def check_emergency(names: list[str]) -> None:
    """Refuse to end the live tokens of more keys than the one that is compromised, or of none without a word."""
    if len(names) != 1:
        there = ", ".join(names) or "no signing keys among those named"
        raise SecretsError(f"emergency: one key at a time; name it: -e rotate=NAME; there are {there}")


class ActionModule(ActionBase):
    """The order in which credentials are rotated."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        names = {"credentials": {"type": "list", "elements": "str", "required": True}, "kind": {"type": "str"}}
        options = {"jwt": JWT_OPTIONS, "skip_services": {"type": "list", "elements": "str", "default": []}}
        _validation, arguments = self.validate_argument_spec(argument_spec={**ARGUMENTS, **names, **options})
        deployment = Deployment(self, arguments, task_vars or {})
        try:
            deployment.require_discretion()
            entries = {name: deployment.stored(name) for name in to_rotate(deployment, arguments)}
            if arguments["kind"] == "token":
                entries = with_next(deployment, entries)
            result.update(changed=False, credentials=sorted(entries, key=lambda name: not is_unfinished(entries[name])))
        except SecretsError as error:
            result.update(failed=True, msg=f"STOPPED at open: {error.message}. Nothing was changed.")
        return result
