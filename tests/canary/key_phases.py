# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signing keys, one that all share and a pair: their phases, with a failure, killed, and in an emergency."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from ground import SIGNER

if TYPE_CHECKING:
    from scenario import Scenario

# A module that is given the keys, after the new one was made.
PUBLISH = (r"^\d\d:\d\d:\d\d db1 +create ", r"Using module file .*/env_file\.py", "SSH: EXEC")
ROLL_OUT = r"^\d\d:\d\d:\d\d db1 +roll out "
BOTH = {word: rf"{word} +jwt (.|\n)*{word} +jwt-pair " for word in ("INTRODUCED", "PROMOTED", "RETIRED")}
SHARED, PAIR = ("-e", "rotate=jwt"), ("-e", "rotate=jwt-pair")


class SigningKeys:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.stack = scenario, scenario.stack

    def turn(self, name: str, *arguments: str, phase: str = "", **options: Any) -> str:
        chosen = ("-e", f"jwt_phase={phase}") if phase else ()
        return self.scenario.run(f"keys: {name}", "rotate-jwt.yml", *chosen, *arguments, **options)

    def part(self) -> None:
        shows = "STOPPED  jwt-pair at roll out"
        self.stack.plant_fault(SIGNER, "log-failure")
        self.turn("introduce fails, service does not work", *PAIR, phase="introduce", ends=2, shows=shows)
        self.stack.plant_fault(SIGNER, None)

    def whole(self) -> None:
        self.open_fails()
        self.part()
        self.turn("introduce both", phase="introduce", runner=True, ends=0, shows=BOTH["INTRODUCED"])
        self.scenario.killed(
            "keys: promote", *PUBLISH, command=("rotate-jwt.yml", "-e", "jwt_phase=promote"), shows=BOTH["PROMOTED"]
        )
        time.sleep(3)  # the last token of the old keys, and more
        retire = ("rotate-jwt.yml", "-e", "jwt_phase=retire", *PAIR)
        abort = ("abort.yml", *PAIR)
        self.scenario.killed("keys: retire", ROLL_OUT, command=retire, then=abort, shows="ABORTED")
        self.turn("retire both", phase="retire", ends=0, shows=BOTH["RETIRED"])
        self.emergency()

    def open_fails(self) -> None:
        """A private key has many lines, and each is one that somebody might quote."""
        env = self.stack.env()
        key = env["JWT_PRIVATE_KEY"]
        text = re.sub(r"(?ms)^JWT_PRIVATE_KEY=.*?(?=^[A-Z_]+=)", "", (self.stack.directory / ".env").read_text())
        command = ("rotate-jwt.yml", "-e", "jwt_phase=introduce")
        refused = self.scenario.env_refused
        refused(
            "keys: open fails, key without its last quote", f'{text}\nJWT_PRIVATE_KEY="{key}', "never closed", command
        )
        bare = f"{text}\nJWT_PRIVATE_KEY={key}"
        refused("keys: open fails, key without quotes", bare, "not KEY=value|docker compose config failed", command)

    def emergency(self) -> None:
        """A key that was introduced is dropped, and the roll-out of the one that replaces all is not taken back."""
        emergency = (*SHARED, "-e", "emergency=true")
        shows = "STOPPED  jwt at roll out"
        command = ("rotate-jwt.yml", "-e", "jwt_phase=introduce", *SHARED)
        self.stack.plant_fault(SIGNER, "log-failure")
        stop = ("rotate-jwt.yml", *emergency)
        self.scenario.killed("keys: introduce", *PUBLISH, command=command, then=stop, ends=2, shows=shows)
        self.stack.plant_fault(SIGNER, None)
        self.turn("emergency goes on", *emergency, ends=0, shows="REPLACED  jwt")
        self.turn("emergency of the pair", *PAIR, "-e", "emergency=true", ends=0, shows="REPLACED  jwt-pair")
