# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main job, to watch: a live stack gets new database passwords, by the usual procedure and by ours.

``python tests/benchmarks/demo.py``; the figures go to ``build/demo.json``. Everything is removed at the end, ``--keep``
leaves the stack running for playbooks by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Callable

from arms import Arm, SeedProcedure, ansible_playbook
from harness import BUILD, ROOT, BenchmarkError, Deployment, Result, brief, end_on_signals, run
from report import arms_table
from stack import StackError

FIGURES = BUILD / "demo.json"


def say(text: str = "") -> None:
    print(text, flush=True)


class DemoCollection(Arm):
    """Ours, as a user types it: the inventory is the repository's own ``inventories/demo``."""

    name = "alternating_users"

    @property
    def environment(self) -> dict[str, str]:
        password_file = self.deployment.folder / ".vault-password"
        if not password_file.exists():
            password_file.touch(mode=0o600)
            password_file.write_text(secrets.token_urlsafe(24) + "\n")
        terminal = {"ANSIBLE_FORCE_COLOR": "1"} if sys.stdout.isatty() else {}
        return {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(password_file),
            **terminal,
        }

    def play(self, playbook: str) -> None:
        say(f"\n$ ansible-playbook playbooks/{playbook}")
        run([ansible_playbook(), f"playbooks/{playbook}"], show=True, **self.environment)

    def prepare(self) -> None:
        self.play("provision.yml")

    def rotate(self) -> None:
        self.play("rotate-db.yml")


def listed(services: list[str]) -> str:
    return f"{len(services)} containers" + (f": {', '.join(services)}" if services else "")


def rotate_quietly(arm: Arm) -> Callable[[], None]:
    def rotate() -> None:
        began = time.monotonic()
        arm.rotate()
        say(f"  one rotation by tests/benchmarks/seed_procedure.sh ({time.monotonic() - began:.1f} s)")

    return rotate


def compare(deployment: Deployment, rotations: int) -> dict[str, Result]:
    """Rotate by the usual procedure, then by ours, on one stack."""
    say(f"Demo stack: PostgreSQL, {len(deployment.stack.consumers)} services behind HAProxy, under load")
    deployment.start()
    usual, ours = SeedProcedure(deployment), DemoCollection(deployment)
    results = {}

    say(f"\n1. The usual procedure, {rotations} rotations (ALTER USER, sed, recreate one by one)")
    results[usual.name] = deployment.measure(rotate_quietly(usual), rotations)
    say(f"  after it a plain 'docker compose up -d' recreated {listed(deployment.recreated_by_up())}")
    # The database is a new container now: its log is another one.
    deployment.start()

    say(f"\n2. chat4all.secrets: provision the running stack once, then {rotations} rotations (alternating users)")
    ours.prepare()
    say(f"\n  after provisioning a plain 'docker compose up -d' recreated {listed(deployment.recreated_by_up())}")
    results[ours.name] = deployment.measure(ours.rotate, rotations)
    say(f"\n  after the rotations a plain 'docker compose up -d' recreated {listed(deployment.recreated_by_up())}")
    return results


def verdict(results: dict[str, Result]) -> list[str]:
    """Return what contradicts the claim; nothing when all is well."""
    usual, ours = results["seed_procedure"], results["alternating_users"]
    faults = []
    if ours.logins.refused:
        faults.append(f"alternating_users: {ours.logins.refused} refused logins: {dict(ours.logins.reasons)}")
    failed = ours.requests.http_failures
    if failed:
        faults.append(f"alternating_users: {failed} failed requests: {dict(ours.requests.reasons)}")
    if not usual.logins.refused:
        faults.append("seed_procedure: no login was refused, so this measurement would not show one")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Rotate a live stack's database password: the usual way, and ours.")
    parser.add_argument("--rotations", type=int, default=2, help="of each kind (2)")
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    options = parser.parse_args()
    end_on_signals()
    try:
        with Deployment("demo", folder=BUILD / "demo") as deployment:
            deployment.keep = options.keep
            results = compare(deployment, options.rotations)
    except (BenchmarkError, StackError) as error:
        print(f"\nDEMO FAILED  {brief(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nDemo interrupted; its containers are removed.", file=sys.stderr)
        return 130

    arms = {name: result.summary() for name, result in results.items()}
    FIGURES.write_text(json.dumps({"arms": arms}, indent=2) + "\n")
    shown = {
        name: {
            **result.summary(),
            "direct_calls": result.requests.direct_calls,
            "direct_failures": result.requests.direct_failures,
        }
        for name, result in results.items()
    }
    probes = results["alternating_users"].logins.negative_probes
    say(f"\n{arms_table(shown)}\n")
    say("Logins are counted in PostgreSQL's own log. Left out are a deliberate wrong login per arm, which was seen,")
    say(f"and our {probes} tries of the old passwords, which were refused. Figures: {os.path.relpath(FIGURES, ROOT)}")
    faults = verdict(results)
    for fault in faults:
        print(f"DEMO FAILED  {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
