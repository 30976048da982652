# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# That all this is what the real Compose does is shown by tests/integration_docker/test_env_file_compose.py.

from __future__ import annotations

import random

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

NASTY = [
    "",
    " leading and trailing ",
    "\ttab\t",
    "two\nlines\n",
    "\r\n",
    "$HOME",
    "${X}",
    "$$",
    "a$",
    "it's",
    "it's $HOME, ${X} and $$",
    'say "hi"',
    """both ' and " and \\' and \\\"""",
    "back\\slash",
    "ends in \\",
    "ends in \\\\",
    "\\n",
    "\\\\n",
    "\\0101",
    "#not a comment",
    "a #b",
    "a=b",
    "=",
    "`id`",
    "$(id)",
    "bang!",
    "100%",
    "~root",
    "ünïcode 日本 😀",
    "\u00a0\u2003",
    "\ufeff",
    "\x01\x1b[0m\x7f\x85",
]


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize("force", [False, True])
def test_a_quoted_value_is_read_as_it_was_and_stays_on_its_line(value: str, force: bool) -> None:
    quoted = dotenv.quote(value, force=force)
    assert dotenv.values(f"A={quoted}\nB=b\n") == {"A": value, "B": "b"}
    assert "\n" not in quoted and "\r" not in quoted


def test_generated_values_are_written_without_quotes() -> None:
    assert dotenv.quote("aB3-._~xyz") == "aB3-._~xyz"


@pytest.mark.parametrize("value", ["a\0b", "\udcff"])
def test_a_value_that_no_file_can_carry_is_refused_by_its_name(value: str) -> None:
    with pytest.raises(SecretsError, match=r"^API_KEY: holds a NUL or a broken character"):
        dotenv.render("", {"API_KEY": value})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("A=plain", "plain"),
        ("A =  spaced out  ", "spaced out"),
        ("export A=x", "x"),
        ("A: yaml", "yaml"),
        ("A=x # comment", "x"),
        ("A=x#y", "x#y"),
        ("A=x\t# y", "x\t# y"),
        ("A= # y", "# y"),
        ("A=x\u2003 ", "x"),
        ("A=x\x1c ", "x\x1c"),
        ("A=", ""),
        ("A=''", ""),
        ("A='#' # comment", "#"),
        ("A='it\\'s $B \\n'", "it's $B \\n"),
        ('A="a\\nb\\t\\"c\\"\\\\"', 'a\nb\t"c"\\'),
        ('A="\\$B $$C \\0101 \\x"', "$B $C A \\x"),
        ("A=$$B", "$B"),
        ("A=a$ $5", "a$ $5"),
        ("A=\\n", "\\n"),
        ("A='two\nlines'", "two\nlines"),
    ],
)
def test_a_line_written_by_hand_is_read_as_compose_reads_it(line: str, expected: str) -> None:
    assert dotenv.values(f"\ufeff# top\n{line}\r\nZ=z") == {"A": expected, "Z": "z"}


def test_of_several_the_last_one_counts() -> None:
    assert dotenv.values("A=1\nA=2\n") == {"A": "2"}


@pytest.mark.parametrize(
    ("line", "source"),
    [("URL=http://$HOST", "other variables"), ('URL="${HOST:-x}"', "other variables"), ("URL", "the shell")],
)
def test_a_value_that_only_compose_can_resolve_is_not_guessed(line: str, source: str) -> None:
    text = f"A=1\n{line}\n"
    with pytest.raises(SecretsError, match=f"^.env line 2: URL takes its value from {source}"):
        dotenv.values(text)
    assert dotenv.values(text, ["A", "MISSING"]) == {"A": "1"}
    assert [entry.value for entry in dotenv.parse(text)] == ["1", None]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nno value here\n", 2),
        ("A=1\n\nB='open\nC=2\n", 3),
        ("A=1\n<<<<<<< HEAD\n", 2),
        ("export ", 1),
        ("# c\n'A'=1\n", 2),
        ("A=1\nopen", 2),
        ("=open\n", 1),
        ('A=1\nB="open\\0000"\n', 2),
    ],
)
def test_a_line_that_compose_refuses_is_named_by_its_number_without_its_text(text: str, line: int) -> None:
    for read in (dotenv.parse, lambda text: dotenv.render(text, {"A": "x"})):
        with pytest.raises(SecretsError, match=f"^.env line {line}: ") as caught:
            read(text)
        for word in ("open", "HEAD", "here C"):
            assert word not in caught.value.message


FOREIGN = """\ufeff# Chat4All, see wiki "secrets"
export PATH_PREFIX=/srv/$HOME # where

EMPTY=
BARE
CERT="-----BEGIN
A=not a line
-----END"  # until 2027
SPACED = 'x'
"""


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_foreign_lines_survive_byte_for_byte(ending: str, last: bool) -> None:
    text = FOREIGN.replace("\n", ending)
    text = text if last else text.removesuffix(ending)
    rendered = dotenv.render(text, {"A": "1", "B": "2"})
    assert rendered == text + ("" if last else ending) + f"A=1{ending}B=2{ending}"
    assert dotenv.render(rendered, {"A": "1", "B": "2"}) == rendered


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("A=old\nB=b\n", "new", "A=new\nB=b\n"),
        ("B=b\nA=old", "new", "B=b\nA=new"),
        ("export A = 'old'  # the key\n", "new", "export A = 'new'  # the key\n"),
        ("A=old # the key\n", "", "A='' # the key\n"),
        ("A=old\r\n", "two words", "A='two words'\r\n"),
        ("A=\r\nB=b\r\n", "new", "A=new\r\nB=b\r\n"),
        ("A\nB=b\n", "new", "A=new\nB=b\n"),
        ("A='multi\nline'\nB=b\n", "new", "A=new\nB=b\n"),
        ("A='x'B=b\n", "new", "A='new'B=b\n"),
        ("A=1\n# why\nA=2\nB=b\nexport A=3 # old", "new", "A=new\n# why\nB=b\n"),
        ("A=1\nURL=http://$A\nA=2\n", "new", "A=new\nURL=http://$A\n"),
        ("A='1'B=b\nC='c' A=2\n", "new", "A='new'B=b\nC='c' \n"),
        ("", "new", "A=new\n"),
        ("\ufeff", "new", "\ufeffA=new\n"),
    ],
)
def test_a_managed_line_is_replaced_in_its_place_and_stays_once(before: str, value: str, after: str) -> None:
    assert dotenv.render(before, {"A": value}) == after
    assert dotenv.render(after, {"A": value}) == after


@pytest.mark.parametrize("line", ['A="x y"', "A='x y'", "export A=x y # why", "A=x y   "])
def test_a_line_that_holds_the_value_already_is_left_alone(line: str) -> None:
    assert dotenv.render(line, {"A": "x y"}) == line


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "A\nB"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(SecretsError, match="is no variable name"):
        dotenv.render("", {name: "x"})


def test_bytes_that_are_no_utf_8_survive() -> None:
    text = b"# caf\xe9\nB=\xff\n".decode("utf-8", "surrogateescape")
    assert dotenv.render(text, {"A": "1"}).encode("utf-8", "surrogateescape") == b"# caf\xe9\nB=\xff\nA=1\n"


def test_generated_files_keep_the_wanted_values_and_the_foreign_ones() -> None:
    source = random.Random(7)
    for _unused in range(300):
        foreign = {f"F{number}": source.choice(NASTY) for number in range(4)}
        wanted = {name: source.choice(NASTY) for name in ("A", "F9", "B")}
        lines = [f"{name}={dotenv.quote(value)}" for name, value in foreign.items()]
        lines += ["# comment '", "", f"A={dotenv.quote(source.choice(NASTY))}", "A=x # y"]
        source.shuffle(lines)
        rendered = dotenv.render(source.choice(["\n", "\r\n"]).join(lines), wanted)
        assert dotenv.values(rendered) == {**foreign, **wanted}
        assert dotenv.render(rendered, wanted) == rendered
