# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No channel ever shows a secret: on the oldest and on the newest ansible-core. ``python canary.py [CORE...]``.

Writes ``build/canary.json``. Ends well only when nothing was found and each channel's control, a harmless value that was
put there on purpose, was found by the same search.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cores import BUILD, Core, SetupError, newest, oldest

RESULT = BUILD / "canary.json"
TABLE = "{:<10} {:<8} {:>5} {:>9} {:>9} {:>7} {:>8} {:>10} {:>6} {:>7}".format


def examine(core: Core) -> dict[str, Any]:
    """Run the scenario on one core and return its report."""
    core.ensure()
    print(f"ansible-core {core.version}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "report.json")
        script = Path(__file__).with_name("scenario.py")
        if subprocess.run([core.python, script, core.version, result], check=False).returncode:
            raise SetupError(f"the scenario stopped on ansible-core {core.version}")
        return json.loads(result.read_text())


def is_clean(report: dict[str, Any]) -> bool:
    return not report["hits"] and not report["problems"] and report["controls_red"] == len(report["channels"])


def table(cores: dict[str, dict[str, Any]]) -> str:
    """Return what was searched on each core and what was found, and each finding."""
    rows = [TABLE("CORE", "PYTHON", "RUNS", "CHANNELS", "CONTROLS", "VALUES", "SEARCHED", "LOOK EVERY", "HITS", "TIME")]
    for version, report in cores.items():
        channels, size = len(report["channels"]), sum(report["bytes"].values()) / 1e6
        controls = f"{report['controls_red']} red"
        figures = (
            controls,
            report["values"],
            f"{size:.0f} MB",
            f"{report['look_ms']} ms",
            report["hits"],
            f"{report['seconds']} s",
        )
        rows.append(TABLE(version, report["python"], len(report["runs"]), channels, *figures))
    for version, report in cores.items():
        missing = [f"{name}: its control was not found" for name in report["channels"] if name not in report["red"]]
        rows += [f"{version}: {what}" for what in report["problems"] + missing + report["found"]]
    return "\n".join(rows)


def main() -> int:
    try:
        wanted = [core for core in (oldest(), newest()) if core.version in sys.argv[1:] or len(sys.argv) == 1]
        # Others that were examined before stay in the file when only some are now.
        known = json.loads(RESULT.read_text())["cores"] if sys.argv[1:] and RESULT.exists() else {}
        for core in wanted:
            known[core.version] = examine(core)
            RESULT.write_text(json.dumps({"cores": known}, indent=1) + "\n")
    except SetupError as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(known))
    return 0 if all(map(is_clean, known.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
