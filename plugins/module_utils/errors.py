# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one error that modules turn into a single clear line."""

from __future__ import annotations


class SecretsError(Exception):
    """What is wrong, where, and what to do, in one line and without any secret value."""

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        # Safe, structured facts for the module's result (never a value of a secret).
        self.details = details
