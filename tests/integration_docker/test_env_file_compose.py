# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What dotenv.py writes and reads is what the real Docker Compose reads, over hand-picked and generated values."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli, clean_environment
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import generate

PROJECT = "generate-env-file"
IMAGE = "chat4all-test/consumer:1"
SEED = 20251203

NASTY = [
    "",
    " ",
    " leading and trailing ",
    "\ttab\t",
    "two\nlines\n",
    "\n",
    "\r\n",
    "$",
    "$$",
    "$$$",
    "$HOME",
    "${X}",
    "$${X}",
    "${",
    "${X:?no}",
    "a$",
    "it's",
    "'",
    "''",
    '"',
    'say "hi"',
    "'single' \"double\"",
    "\\",
    "\\\\",
    "\\'",
    '\\"',
    "ends in \\",
    "\\n\\t\\$\\0101\\x41",
    "#",
    "#not a comment",
    "a #b",
    "a# b",
    "=",
    "a=b=c",
    "A: b",
    "`id`",
    "$(id)",
    "bang!",
    "100%",
    "%s%d",
    "~",
    "~root",
    "- x",
    "{{ jinja }}",
    "null",
    "true",
    "0123",
    "1e5",
    "ünïcode 日本 😀 e\u0301",
    "\u00a0no-break\u00a0",
    "\u2003\u2028",
    "\ufeff",
    "\x01\x1b[31m\x7f\x85",
    "export A=1",
    "mongodb://user:p%40ss@host:27017/db?a=b&c=d#e",
    "x" * 5000,
]

PIECES = [
    *"abZ09 \t\n\r\"'\\$#{}!%`~@&=:;<>()[]*?|^,.-_/+",
    *("$$", "${X}", "$X", "\\n", "\\$", "\\'", '\\"', "\\\\", " #", "''", '""', "\\0101", "\r\n"),
    *("é", "日本", "😀", "\u00a0", "\x85", "\u2028", "\x01", "\x7f", "\ufeff"),
]

FOREIGN = """\ufeff# Chat4All: see the wiki's page "secrets"
export TZ=Europe/Berlin # where we are

EMPTY=
BARE_NAME
  INDENTED = 'a b' # c
YAML_STYLE: yes
CERTIFICATE="-----BEGIN
V7=not a variable, but a line of a value
-----END"
V3=old # ours
REFERENCE=http://${TZ}/$V3
V3='old again'
export V5="old" # ours too
LAST=no newline after this"""

# What people write, and what trips readers of the format up.
LINES = [
    "A=plain",
    "A = spaced  ",
    "A=x # comment",
    "A=x#y",
    "A=x\t# y",
    "A= # y",
    "A=#y",
    "A='x' # comment",
    'A="x" # comment',
    "A='#'",
    "A=''",
    'A=""',
    "A=",
    "A=   ",
    "A=x y z",
    "A=it's",
    'A=say "hi"',
    "A='it\\'s'",
    "A='x\\n$B ${B} \\\\'",
    'A="a\\nb\\tc\\rd\\\\e\\"f\\a\\b\\f\\v"',
    'A="\\$B \\${B}"',
    'A="$$B"',
    "A=$$B",
    "A=\\$B",
    "A=a$",
    "A=$5 $-",
    'A="\\0101 \\012 \\0 \\0377 \\0777 \\c \\x41"',
    "A=\\n",
    "A='two\nlines'",
    'A="two\nlines"',
    "A='x'B=y",
    "A=\"x\" B='y' C=z",
    "export A=x",
    "export\tA=x",
    "exportA=x",
    "A: x",
    "A:x:y=z",
    "A==x",
    "1A=x",
    "A.b-c[0]=x",
    "A=1\nA=2",
    "A=1\nA\n",
    "A=${B}",
    "B=1\nA=$B",
    'A="${B:-x}"',
    "A=\u00a0x\u00a0",
    "A=x\u2003",
    "\u00e9=x",
    "\ufeffA=x",
]

REFUSED = [
    "two words=x",
    "A=1\nnot a line\nB=2",
    "A='open",
    'A="open\\"',
    "<<<<<<< HEAD",
    "A$=x",
    "'A'=x",
    "=x",
    "BARE AT THE END".replace(" ", "_"),
    "export ",
    "\u200bA=x",
    'A="\\0000"',
]


class Compose:
    """A Compose project in a folder of its own; its services never start, save in one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.docker = DockerCli()

    def write_services(self, services: dict[str, dict]) -> None:
        services = {name: {"image": IMAGE, "network_mode": "none", **service} for name, service in services.items()}
        (self.folder / "compose.yml").write_text(json.dumps({"services": services}), encoding="utf-8")

    def write_env(self, text: str, name: str = ".env") -> None:
        (self.folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))

    def run(self, *arguments: str, check: bool = True):
        return self.docker.run("compose", "-p", PROJECT, *arguments, cwd=str(self.folder), check=check)

    def environments(self) -> dict[str, dict[str, str]]:
        """Return each service's environment as Compose resolves it; ``config`` doubles every dollar sign."""
        services = json.loads(self.run("config", "--format", "json").stdout)["services"]
        return {
            name: {key: (value or "").replace("$$", "$") for key, value in (service.get("environment") or {}).items()}
            for name, service in services.items()
        }


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    return Compose(tmp_path)


def generated_values() -> dict[str, str]:
    source = random.Random(SEED)
    values = list(NASTY)
    values += ["".join(source.choices(PIECES, k=source.choice([1, 2, 3, 4, 6, 10, 30]))) for _unused in range(400)]
    values += [generate().value for _unused in range(20)]
    return {f"V{number}": value for number, value in enumerate(values)}


def consumers(values: dict[str, str]) -> dict[str, dict]:
    return {
        "interpolated": {"environment": {name: f"${{{name}}}" for name in values}},
        "default": {"environment": [f"{name}=${{{name}:-}}" for name in values]},
        "loaded": {"env_file": ".env"},
    }


def test_values_come_out_of_compose_unchanged(compose: Compose) -> None:
    values = generated_values()
    compose.write_services(consumers(values))
    compose.write_env(dotenv.render("", values))
    environments = compose.environments()
    assert len(values) > 450
    assert environments == {"interpolated": values, "default": values, "loaded": values}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_values_come_out_unchanged_of_a_file_with_foreign_lines_which_stay(compose: Compose, ending: str) -> None:
    values = generated_values()
    source = random.Random(SEED)
    before = FOREIGN.replace("\n", ending)
    # Ours are all over the file, some of them twice, before foreign lines and behind them.
    for name in source.sample(sorted(values), 60):
        before += f"{ending}{name}={dotenv.quote(source.choice(NASTY))}"
        before += f"{ending}FOREIGN_{name}={dotenv.quote(values[name])}{ending}# {name}='"
    compose.write_services(consumers(values))
    compose.write_env(before)
    foreign = {name: value for name, value in compose.environments()["loaded"].items() if name not in values}
    assert len(foreign) == 67

    after = dotenv.render(before, values)
    compose.write_env(after)
    environments = compose.environments()
    assert environments["interpolated"] == values
    reference = {"REFERENCE": f"http://Europe/Berlin/{values['V3']}"}
    assert environments["loaded"] == {**foreign, **values, **reference}
    assert dotenv.render(after, values) == after


def test_values_arrive_in_a_container_unchanged(compose: Compose) -> None:
    if not compose.docker.run("image", "ls", "--quiet", IMAGE).stdout:
        pytest.skip(f"no image {IMAGE}; python3 tests/images/images.py --all")
    values = generated_values()
    compose.write_services(consumers(values))
    compose.write_env(dotenv.render("", values))
    try:
        for service in ("interpolated", "loaded"):
            # Not through DockerCli, which reads text and so turns a carriage return into a newline.
            command = ["docker", "compose", "-p", PROJECT, "run", "--rm", "--no-TTY", "--entrypoint", "env"]
            shown = subprocess.run(
                [*command, service, "--null"],
                cwd=compose.folder,
                env=clean_environment(),
                check=True,
                capture_output=True,
                timeout=60,
            ).stdout.decode()
            seen = dict(entry.split("=", 1) for entry in shown.split("\0") if entry)
            assert {name: seen.get(name) for name in values} == values
    finally:
        compose.run("down", "--timeout", "0", check=False)


def random_files() -> list[str]:
    """Return files made of pieces of the format, those that a reader is likely to get wrong."""
    source = random.Random(SEED)
    pieces = [*PIECES, "A=", "B=", "\nA=", "\nB=", "export A=", "A: ", "'x'", '"y"', "\\0377", "\t#", "\v", "\x1c"]
    files = []
    while len(files) < 4000:
        files.append(
            "A=" + "".join(source.choices(pieces, k=source.randint(1, 14))) + source.choice(["", "\n", "\r\n"])
        )
    return files


def accepted(text: str) -> bool:
    try:
        dotenv.parse(text)
    except SecretsError:
        return False
    return True


def test_lines_are_read_as_compose_reads_them(compose: Compose) -> None:
    # An invalid reference is an error of Compose's, for all files together.
    texts = LINES + [text for text in random_files() if accepted(text) and "${" not in text][:600]
    for number, text in enumerate(texts):
        compose.write_env(text, f"{number}.env")
    compose.write_services({f"s{number}": {"env_file": f"{number}.env"} for number in range(len(texts))})
    environments = compose.environments()
    compared = 0
    for number, text in enumerate(texts):
        last = {entry.key: entry.value for entry in dotenv.parse(text)}
        known = {key: value for key, value in last.items() if value is not None}
        read = environments[f"s{number}"]
        assert {key: read.get(key) for key in known} == known, repr(text)
        assert set(read) <= set(last), repr(text)
        compared += len(known)
    assert compared > 600


def test_what_we_refuse_to_read_compose_refuses_too(compose: Compose) -> None:
    compose.write_services({"service": {}})
    refused = REFUSED + [text for text in random_files() if not accepted(text)][:12]
    for text in refused:
        with pytest.raises(SecretsError):
            dotenv.parse(text)
        compose.write_env(text)
        assert compose.run("config", check=False).returncode != 0, repr(text)
