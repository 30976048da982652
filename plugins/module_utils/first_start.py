# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep what a server was given at its first start apart from what its consumers use."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.compose import MARKER, Project
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import read_plain_file

# What an override replaces key by key; lists such as volumes are appended to and cannot be pinned this way.
PINNED_KEYS = ("environment", "command", "entrypoint", "healthcheck", "labels")
# Without quotes, other names of services (1e3, null, -) are something else to YAML.
PLAIN_KEY = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)$)[a-z][a-z0-9_-]*", re.IGNORECASE)


def renamed(value: Any, variables: Mapping[str, str]) -> Any:
    """Return ``value`` with each reference to one of the variables turned to its other name; ``None`` if none."""
    if isinstance(value, str):
        pattern = r"(?<!\$)((?:\$\$)*\$\{?)(" + "|".join(map(re.escape, variables)) + r")(?![A-Za-z0-9_])"
        changed = re.sub(pattern, lambda match: match.group(1) + variables[match.group(2)], value)
        return changed if changed != value else None
    if isinstance(value, list):
        changes = [renamed(item, variables) for item in value]
        if all(change is None for change in changes):
            return None
        return [item if change is None else change for item, change in zip(value, changes)]
    if isinstance(value, dict):
        kept = {key: renamed(item, variables) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None} or None
    return None


def override_for(project: Project, service: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return what has to stand in an override so that ``service`` reads the other variables."""
    raw = json.loads(project.compose("config", "--no-interpolate", "--format", "json").stdout)
    config = raw["services"][service]
    pinned = {key: renamed(config.get(key), variables) for key in PINNED_KEYS}
    found = {key: value for key, value in pinned.items() if value}
    if not found:
        names = ", ".join(sorted(variables))
        raise SecretsError(
            f"{service}: uses {names} outside environment, command and health check (in env_file?); "
            f"write {', '.join('${' + name + '}' for name in variables.values())} there by hand"
        )
    return found


def pinned_override(project: Project, service: str, variables: Mapping[str, str]) -> tuple[str, str] | None:
    """Return path and text of the override that pins what ``service`` reads; ``None`` where it needs none.

    The text is tried first: raises :class:`SecretsError` where it would not be read, or would not be enough.
    """
    depends = [name for name, users in project.consumers(variables).items() if service in users]
    if not depends:
        return None
    wanted = ", ".join("${" + variables[name] + "}" for name in depends)
    path = project.override
    if path is None:
        files = ", ".join(os.path.basename(name) for name in project.files)
        raise SecretsError(
            f"{service}: its first-start variables are shared with its consumers, and an override would not be read "
            f"beside the named files ({files}); write {wanted} for {service} there yourself"
        )
    text = merged(path, service, override_for(project, service, variables))
    trial = project.with_override(text, dict.fromkeys(variables.values(), MARKER + "-pinned"))
    left = [name for name, users in trial.consumers(variables).items() if service in users]
    if left:
        raise SecretsError(
            f"{service}: would still depend on {', '.join(left)} with {path}; write {wanted} for {service} there by hand"
        )
    return path, text


def merged(path: str, service: str, pinned: dict[str, Any]) -> str:
    """Return the override's text with the pins in it; what stands there already is kept."""
    content = read_plain_file(path)
    if content is None:
        return _new_text(service, pinned)
    try:
        from ruamel.yaml import YAML
    except ImportError:
        raise SecretsError(
            f"{path} exists and merging into it needs ruamel.yaml on this host (apt install python3-ruamel.yaml); "
            f"or add by hand below services.{service}: {json.dumps(pinned)}"
        ) from None
    import io

    yaml = YAML()
    yaml.preserve_quotes = True
    document = yaml.load(content.decode()) or {}
    if document.get("services") is None:
        document["services"] = {}
    if document["services"].get(service) is None:
        document["services"][service] = {}
    target = document["services"][service]
    for key, value in pinned.items():
        present = target.get(key)
        if isinstance(value, dict) and isinstance(present, list):
            present[:] = [item for item in present if str(item).split("=", 1)[0] not in value]
            present.extend(f"{name}={item}" for name, item in value.items())
        elif isinstance(value, dict) and present is not None:
            present.update(value)
        else:
            target[key] = value
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def _new_text(service: str, pinned: dict[str, Any]) -> str:
    lines = [
        f"# Keeps what {service} was given at its first start, so that a rotated value does not recreate it.",
        "# Made by chat4all.secrets; the values are in .env.",
        "services:",
        f"  {service}:" if PLAIN_KEY.fullmatch(service) else f"  {json.dumps(service)}:",
    ]
    for key, value in pinned.items():
        if isinstance(value, dict):
            lines.append(f"    {key}:")
            lines += [f"      {name}: {json.dumps(item)}" for name, item in value.items()]
        else:
            lines.append(f"    {key}: {json.dumps(value)}")
    return "\n".join(lines) + "\n"
