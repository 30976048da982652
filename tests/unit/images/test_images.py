# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where images can be pulled the tests run on the official ones, PostgreSQL 16 too; a script stands in for docker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images"))

import images

# It knows images by name and label; what is pulled has no label, and a registry may be out of reach.
DOCKER = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
case "$1 $2" in
"image ls") cut -d ' ' -f 1 made ;;
"image inspect") cut -d ' ' -f 2 made ;;
"pull "*) test -e registry ;;
"tag "*) echo "$3 " >> made ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A docker whose images of ours are made already, all but PostgreSQL 16."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    ours = [image for image in images.IMAGES if image.buildable]
    (tmp_path / "made").write_text("".join(f"{image.tag} {images.inputs(image)}\n" for image in ours))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(images, "BUILD", tmp_path / "build")
    return tmp_path


def test_the_official_postgresql_16_is_tested_where_it_can_be_pulled(engine):
    (engine / "registry").touch()
    images.make(images.IMAGES)
    assert images.versions("postgres") == ["17", "15", "16"]
    described = images.describe()
    assert described["chat4all-test/postgres:16"] == "official postgres:16"
    assert described["chat4all-test/postgres:17"] == "built on Debian trixie"
    # A second run finds it, and a registry that has gone since takes it from nobody.
    (engine / "registry").unlink()
    images.make(images.IMAGES)
    assert images.versions("postgres") == ["17", "15", "16"]


def test_where_nothing_can_be_pulled_the_tests_run_on_what_debian_has(engine):
    images.make(images.IMAGES)
    assert images.versions("postgres") == ["17", "15"]
    assert "chat4all-test/postgres:16" not in images.describe()
