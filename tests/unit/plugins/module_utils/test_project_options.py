# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import secret_values


def test_an_older_password_is_secret_wherever_a_container_holds_it(tmp_path):
    (tmp_path / "live.env").write_text("PIN=new-value\nOTHER=public\n")
    environments = [
        {"DATABASE_URL": "postgresql://app:in-a-url@db/app", "PIN": "old-value"},
        {
            "CONNECTION": "host=db password=in-a-string",
            "SPRING_DATASOURCE_PASSWORD": "by-its-name",
            "SERVICE": "public",
        },
    ]
    project = SimpleNamespace(
        env_file=str(tmp_path / "live.env"), containers=lambda: [SimpleNamespace(env=env) for env in environments]
    )
    assert secret_values(project, ["PIN"]) == {
        "new-value",
        "old-value",
        "postgresql://app:in-a-url@db/app",
        "in-a-url",
        "in-a-string",
        "by-its-name",
    }
