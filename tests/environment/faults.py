# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of faults need besides: an SSH server and a clock that jumps. Where they are missing, tests are skipped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from system import install, say


def ensure() -> None:
    """Have both where that does no harm: an SSH server that is installed on a system with services would be started."""
    needed = {
        "openssh-server": shutil.which("sshd", path="/usr/sbin:/usr/bin"),
        "openssh-client": shutil.which("ssh-keygen"),
        "gcc": shutil.which("cc") or shutil.which("gcc"),
    }
    missing = [package for package, found in needed.items() if not found]
    if not missing:
        return
    if os.geteuid() == 0 and shutil.which("apt-get") and not Path("/run/systemd/system").is_dir():
        # What starts services at installation leaves them alone in this one.
        os.environ["RUNLEVEL"] = "1"
        install("what the tests of faults use", *missing, *(["libc6-dev"] if "gcc" in missing else []))
    else:
        say(f"some tests of faults will be skipped without: apt-get install {' '.join(missing)}")
