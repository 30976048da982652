# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


def test_everything_is_back(rolled_back, check):
    getattr(rolled_back("never_healthy", "api-gateway", "its health check fails"), check)()
