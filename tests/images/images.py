# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the test images ``chat4all-test/*``: ``python3 tests/images/images.py [--all | --list | --remove]``.

Where images can be pulled, ``postgres`` and ``haproxy`` are the official ones under our name. Elsewhere they are built
from Debian packages on a base made by debootstrap. The reference consumer is always built. Needs Python's standard
library alone; an image is built again only when what it is made from has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "environment"))

from system import BUILD, SetupError, install  # noqa: E402

LABEL = "chat4all.inputs"
PULL_TIMEOUT = 120
DEFAULT_MIRROR = "http://deb.debian.org/debian"


@dataclass(frozen=True)
class Image:
    """One image under our name: where it comes from, and who needs it."""

    tag: str
    folder: str
    suite: str = "trixie"
    arguments: dict[str, str] = field(default_factory=dict)
    official: str = ""
    demo: bool = False  # needed by the demo stack, not by the tests alone
    buildable: bool = True

    @property
    def base(self) -> str:
        return f"chat4all-test/base:{self.suite}"


IMAGES = (
    Image("chat4all-test/consumer:1", "consumer", demo=True),
    Image("chat4all-test/haproxy:1", "haproxy", official="haproxy:3.0", demo=True),
    Image("chat4all-test/postgres:17", "postgres", "trixie", {"POSTGRES": "17"}, "postgres:17", demo=True),
    Image("chat4all-test/jwt:1", "jwt"),
    Image("chat4all-test/postgres:15", "postgres", "bookworm", {"POSTGRES": "15"}, "postgres:15"),
    Image("chat4all-test/machine:1", "machine"),
    # Debian has no PostgreSQL 16: this one exists where images can be pulled.
    Image("chat4all-test/postgres:16", "postgres", official="postgres:16", buildable=False),
)

# Documentation is most of what a small package installs; an image that lives for a test needs no fsync.
BASE_FILES = {
    "etc/dpkg/dpkg.cfg.d/small": "force-unsafe-io\n"
    + "".join(f"path-exclude=/usr/share/{name}/*\n" for name in ("doc", "info", "lintian", "locale", "man")),
    "etc/apt/apt.conf.d/small": 'APT::Install-Recommends "false";\n'
    'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    'DPkg::Post-Invoke {"rm -f /var/cache/apt/archives/*.deb";};\n',
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
}
BASE_RUBBISH = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


def digest(*parts: str | bytes) -> str:
    """Return a hash of what something is made from."""
    content = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        content.update(len(raw).to_bytes(8, "big") + raw)
    return content.hexdigest()[:16]


def inputs(image: Image) -> str:
    """Return the hash of an image's files, build arguments and base."""
    files = sorted(path for path in (HERE / image.folder).rglob("*") if path.is_file() and path.suffix != ".pyc")
    parts = [part for path in files for part in (path.name, path.read_bytes())]
    return digest(base_inputs(image.suite), json.dumps(image.arguments), *parts)


def base_inputs(suite: str) -> str:
    return digest(suite, json.dumps(BASE_FILES), json.dumps(BASE_RUBBISH))


def docker(*arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )


def output(*command: str) -> str:
    """Return what a command says; nothing when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def present() -> dict[str, str]:
    """Return the label of every ``chat4all-test`` image: our input hash, or nothing for an official one."""
    done = docker("image", "ls", "--filter", "reference=chat4all-test/*", "--format", "{{.Repository}}:{{.Tag}}")
    if done.returncode:
        raise SetupError(f"docker image ls failed: {last_line(done.stderr)}")
    tags = done.stdout.split()
    if not tags:
        return {}
    labels = docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', *tags)
    return dict(zip(tags, labels.stdout.splitlines(), strict=True))


class Registry:
    """Whether images can be pulled here: tried once, remembered in ``build/``."""

    def __init__(self) -> None:
        self._file = BUILD / "registry.json"
        self._usable: bool | None = json.loads(self._file.read_text())["usable"] if self._file.exists() else None

    def pull(self, official: str, tag: str) -> bool:
        """Make ``official`` available as ``tag``; say whether it could be done."""
        if self._usable is False:
            return False
        try:
            usable = docker("pull", "--quiet", official, timeout=PULL_TIMEOUT).returncode == 0
        except subprocess.TimeoutExpired:
            usable = False
        if self._usable is None:
            self._usable = usable
            self._file.parent.mkdir(exist_ok=True)
            self._file.write_text(json.dumps({"usable": usable}))
        return usable and docker("tag", official, tag).returncode == 0


def mirror() -> str:
    """Return the URL of the Debian archive that this machine's apt uses."""
    if shutil.which("apt-get"):
        query = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
        for narrower in (["Origin: Debian", "Label: Debian"], []):
            sites = [site for site in output(*query, *narrower).split() if site.rstrip("/").endswith("/debian")]
            if sites:
                return sites[0]
    return DEFAULT_MIRROR


def proxy_configuration() -> str:
    """Return the proxies that this machine's apt is told to use, for the base's own apt."""
    if not shutil.which("apt-config"):
        return ""
    wanted = ("Acquire::http::Proxy", "Acquire::https::Proxy")
    return "".join(line + "\n" for line in output("apt-config", "dump").splitlines() if line.startswith(wanted))


def debootstrap(suite: str, tag: str, log: Path) -> None:
    """Make the base image of a Debian release from its packages."""
    if os.geteuid() != 0:
        raise SetupError("test images: nothing can be pulled here, and to make a base image takes root: run as root")
    if not shutil.which("debootstrap"):
        install("debootstrap", "debootstrap", "debian-archive-keyring")
    # Not /tmp: it may be mounted without devices, which debootstrap refuses.
    work = Path(tempfile.mkdtemp(prefix="chat4all-base-", dir="/var/tmp"))
    try:
        command = ["debootstrap", "--variant=minbase"]
        keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
        if keyring.exists():
            command.append(f"--keyring={keyring}")
        command += [suite, str(work), mirror()]
        with log.open("w") as file:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False)
        if done.returncode:
            raise SetupError(f"debootstrap {suite} failed: {last_line(log.read_text())} (log: {log})")
        for name, content in {**BASE_FILES, "etc/apt/apt.conf.d/proxy": proxy_configuration()}.items():
            (work / name).write_text(content)
        (work / "usr/sbin/policy-rc.d").chmod(0o755)
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        if mirror().startswith("https:") and bundle.exists():
            (work / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
            shutil.copy(bundle, work / "etc/ssl/certs")
        for name in BASE_RUBBISH:
            for path in (work / name).iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        label = f"LABEL {LABEL}={base_inputs(suite)}"
        with subprocess.Popen(["tar", "-C", str(work), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE) as tar:
            command = ["docker", "import", "--change", label, "-", tag]
            imported = subprocess.run(command, stdin=tar.stdout, capture_output=True, text=True, check=False)
        if imported.returncode or tar.returncode:
            raise SetupError(f"docker import of {tag} failed: {last_line(imported.stderr)}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def build(image: Image, log: Path) -> None:
    """Build one image on its base."""
    arguments = [f"--build-arg={name}={value}" for name, value in {"BASE": image.base, **image.arguments}.items()]
    label = f"--label={LABEL}={inputs(image)}"
    done = docker("build", "--tag", image.tag, label, *arguments, str(HERE / image.folder))
    log.write_text(done.stdout + done.stderr)
    if done.returncode:
        raise SetupError(f"docker build of {image.tag} failed: {last_line(done.stderr or done.stdout)} (log: {log})")


def make(wanted: Iterable[Image]) -> None:
    """Make the images that are missing or out of date."""
    have = present()
    registry = Registry()
    for image in wanted:
        # An image without our label is an official one.
        if image.tag in have and have[image.tag] in ("", inputs(image)):
            continue
        began = time.monotonic()
        log = BUILD / "log" / f"image-{image.tag.rpartition('/')[2].replace(':', '-')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if image.official and registry.pull(image.official, image.tag):
            origin = f"official {image.official}"
        elif not image.buildable:
            continue
        else:
            if have.get(image.base) not in ("", base_inputs(image.suite)):
                if not registry.pull(f"debian:{image.suite}-slim", image.base):
                    debootstrap(image.suite, image.base, log.with_name(f"base-{image.suite}.log"))
                have = present()
            build(image, log)
            origin = f"built on Debian {image.suite}"
        print(f"setup: image {image.tag}: {origin} ({time.monotonic() - began:.0f} s)", flush=True)


def describe() -> dict[str, str]:
    """Return where each test image comes from."""
    have = present()
    return {
        image.tag: f"built on Debian {image.suite}" if have[image.tag] else f"official {image.official}"
        for image in IMAGES
        if image.tag in have
    }


def versions(folder: str) -> list[str]:
    """Return the versions of a server that the tests run on: those that can always be made, and what could be pulled."""
    have = present()
    chosen = [image for image in IMAGES if image.folder == folder and (image.buildable or image.tag in have)]
    return [image.tag.rpartition(":")[2] for image in chosen]


def remove() -> None:
    """Remove every test image."""
    tags = list(present())
    if tags:
        docker("image", "rm", "--force", *tags)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the test images.")
    parser.add_argument("--all", action="store_true", help="those of the tests too, not the demo's alone")
    parser.add_argument("--list", action="store_true", help="say where each image comes from")
    parser.add_argument("--remove", action="store_true", help="remove the test images")
    options = parser.parse_args()
    try:
        if options.remove:
            remove()
        elif options.list:
            print("\n".join(f"{tag}: {origin}" for tag, origin in describe().items()))
        else:
            make(image for image in IMAGES if options.all or image.demo)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
