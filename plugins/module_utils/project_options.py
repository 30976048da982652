# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options by which a module is told which Compose project is meant."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.files import check_plain_file, read_plain_file
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import sensitive_values

PROJECT_OPTIONS: dict[str, dict[str, Any]] = {
    "project_dir": {"type": "path", "required": True},
    "compose_files": {"type": "list", "elements": "path", "default": []},
    "env_file": {"type": "path"},
    "project_name": {"type": "str"},
}


def project_arguments(params: dict[str, Any]) -> tuple[str, list[str], str | None, str | None]:
    """Return what :meth:`Project.load` takes after the Docker client: folder, files, env file, name."""
    return params["project_dir"], params["compose_files"], params["env_file"], params["project_name"]


def read_env(path: str, names: Iterable[str]) -> dict[str, str]:
    """Return the named variables that an env file has; none when there is no such file."""
    text = (read_plain_file(path) or b"").decode("utf-8", "surrogateescape")
    return dotenv.values(text, names=names, where=path)


def check_env(path: str) -> None:
    """Refuse an env file that could not be replaced: what is no plain file, or belongs to another than its folder."""
    with contextlib.suppress(OSError):
        check_plain_file(path, os.stat(os.path.dirname(path)).st_uid)


def secret_values(project: Project, variables: Iterable[str]) -> set[str]:
    """Return what must never be shown: the variables' values in the env file, and wherever containers hold secrets.

    A container made before the last change holds an older value, under whatever name its service gives it, or as a part
    of a URL.
    """
    wanted = set(variables)
    present = read_env(project.env_file, wanted)
    values = set(present.values()) | sensitive_values(present)
    for container in project.containers():
        values |= {value for name, value in container.env.items() if name in wanted}
        values |= sensitive_values(container.env)
    return values
