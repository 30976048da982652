# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark of docs/jwt.md: ``python tests/benchmarks/signing_keys.py``; figures to ``build/benchmark/jwt.json``.

Three services mint a token every 20 ms and verify one another's, at once and again just before they expire, while the
signing key is replaced: by the procedure that this project began with, and in three phases, with a shared key and with a
key pair. Afterwards tokens that are signed with the old key are shown to every service.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from harness import BUILD, ROOT, BenchmarkError, end_on_signals, run
from plays import Plays
from stack import CONSUMERS, StackError
from tokens import SERVICES, TokenStack

FIGURES = BUILD / "benchmark" / "jwt.json"
TOKEN_LIFE = 10
POLICY = {"token_life": f"{TOKEN_LIFE}s", "skew": "1s", "overlap": "5s"}
PROBES = 10


def seed_procedure(stack: TokenStack) -> None:
    """Replace the key as the runbook does.

    It restarts the services; as that reads no ``.env``, they are recreated here, without which nothing would happen.
    """
    before = stack.env()
    new = secrets.token_hex(32)

    def renew() -> None:
        for name in CONSUMERS:
            stack.compose("up", "-d", "--no-deps", "--force-recreate", "--wait", name)

    stack.write_env({**before, "JWT_SIGNING_KEY_SECONDARY": new})
    renew()
    # The runbook's seven days: longer than any token lives.
    stack.settle()
    stack.write_env({**before, "JWT_SIGNING_KEY": new})
    renew()


def three_phases(stack: TokenStack) -> None:
    """Replace the key by ``rotate-jwt.yml``, run again and again as a schedule does."""
    catalog = {"jwt": {**POLICY, "algorithm": stack.algorithm}}
    folder = BUILD / "benchmark" / stack.project
    plays = Plays(folder, stack.directory, secrets_catalog=catalog, secrets_services=SERVICES)

    def play(playbook: str, *arguments: str) -> str:
        return run(plays.command(playbook, *arguments), **plays.environment)

    play("provision.yml")
    play("rotate-jwt.yml", "-e", "jwt_phase=introduce")
    for word in ("PROMOTED", "RETIRED"):
        deadline = time.monotonic() + 120
        while word not in play("rotate-jwt.yml"):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{stack.project}: not {word.lower()} within two minutes")
            time.sleep(1)


ARMS: dict[str, tuple[str, Callable[[TokenStack], None]]] = {
    "seed_procedure": ("HS256", seed_procedure),
    "three_phases_hs256": ("HS256", three_phases),
    "three_phases_es256": ("ES256", three_phases),
}


def measure(name: str) -> dict[str, Any]:
    """Return what one arm did to the tokens."""
    algorithm, rotate = ARMS[name]
    with TokenStack(f"bench-{name.replace('_', '-')}", algorithm, TOKEN_LIFE) as stack:
        old = stack.env()
        began = time.monotonic()
        rotate(stack)
        seconds = time.monotonic() - began
        stack.settle()
        counts, pairs = stack.counts(), stack.pairs()
        new = stack.env()
        if new["JWT_SIGNING_KEY"] == old["JWT_SIGNING_KEY"]:
            raise BenchmarkError(f"{name}: the key is still the old one")
        claims = {"iss": "probe", "exp": int(time.time()) + 600}

        def judged(env: dict[str, str]) -> dict[str, int]:
            headers = {"kid": env["JWT_KEY_ID"]} if "JWT_KEY_ID" in env else None
            found = stack.judge([jwt.encode(claims, env["JWT_SIGNING_KEY"], algorithm, headers=headers)] * PROBES)
            return {word: found[word] for word in ("verified", "rejected")}

        return {
            **{word: counts[word] for word in ("verified", "rejected", "missed")},
            "least_verified_of_one_signer_by_one_service": min(pairs.values()),
            "seconds": round(seconds, 1),
            "old_key_afterwards": judged(old),
            "new_key_afterwards": judged(new),
        }


def promised(arms: dict[str, dict[str, Any]]) -> list[tuple[str, bool]]:
    """Return what is promised of the arms, and whether it was kept."""
    found = []
    for name, figures in arms.items():
        after = 2 * PROBES * len(CONSUMERS)
        dead = figures["old_key_afterwards"] == {"verified": 0, "rejected": after}
        lives = figures["new_key_afterwards"] == {"verified": after, "rejected": 0}
        found.append((f"{name}: the old key is dead, the new one is not", dead and lives))
        # A token a twentieth of a second, each verified twice; what came too late is known of neither.
        least = figures["seconds"] * 20
        seen = figures["least_verified_of_one_signer_by_one_service"] > least
        in_time = figures["missed"] * 20 < figures["verified"]
        found.append(
            (f"{name}: every service verifies every other signer's tokens, nearly all in time", seen and in_time)
        )
        if name == "seed_procedure":
            found.append((f"{name}, the control: live tokens are rejected", figures["rejected"] > 0))
        else:
            found.append((f"{name}: no live token is rejected", figures["rejected"] == 0))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the tokens that a rotation of the signing key invalidates.")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"of {','.join(ARMS)}")
    parser.add_argument("--output", type=Path, default=FIGURES)
    options = parser.parse_args()
    end_on_signals()
    arms = {}
    try:
        for name in options.arms.split(","):
            figures = arms[name] = measure(name)
            print(
                f"{name:<20} {figures['verified']:>8,} verified {figures['rejected']:>7,} rejected"
                f"   {figures['seconds']:.0f} s",
                flush=True,
            )
    except (BenchmarkError, StackError, AssertionError) as error:
        print(f"BENCHMARK FAILED  {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Benchmark interrupted; its containers are removed.", file=sys.stderr)
        return 130
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"arms": arms}, indent=2) + "\n")
    promises = promised(arms)
    for text, kept in promises:
        print(f"{'ok ' if kept else 'NOT'}  {text}")
    print(f"figures: {os.path.relpath(options.output, ROOT)}")
    return 0 if all(kept for _text, kept in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
