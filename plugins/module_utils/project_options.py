# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options by which a module is told which Compose project is meant."""

from __future__ import annotations

from typing import Any

PROJECT_OPTIONS: dict[str, dict[str, Any]] = {
    "project_dir": {"type": "path", "required": True},
    "compose_files": {"type": "list", "elements": "path", "default": []},
    "env_file": {"type": "path"},
    "project_name": {"type": "str"},
}


def project_arguments(params: dict[str, Any]) -> tuple[str, list[str], str | None, str | None]:
    """Return what :meth:`Project.load` takes after the Docker client: folder, files, env file, name."""
    return params["project_dir"], params["compose_files"], params["env_file"], params["project_name"]
