# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import uris
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

NEW = ("app_1", "N3w-._~")

# What is there, its login, and what it becomes.
REPLACED = [
    ("postgresql://app:old@db/app", ("app", "old"), "postgresql://app_1:N3w-._~@db/app"),
    (
        "postgres://app:p%40s%2fs%3A%25@db:5432/app?sslmode=require&x=%2F#f",
        ("app", "p@s/s:%"),
        "postgres://app_1:N3w-._~@db:5432/app?sslmode=require&x=%2F#f",
    ),
    # libpq: several hosts, one of them an address of IPv6.
    (
        "postgresql://app:old@h1:5432,[::1]:5433,h3/app?target_session_attrs=rw",
        ("app", "old"),
        "postgresql://app_1:N3w-._~@h1:5432,[::1]:5433,h3/app?target_session_attrs=rw",
    ),
    ("postgresql://app:old@/app?host=/run/pg", ("app", "old"), "postgresql://app_1:N3w-._~@/app?host=/run/pg"),
    ("postgresql://app:old@%2Frun%2Fpg/app", ("app", "old"), "postgresql://app_1:N3w-._~@%2Frun%2Fpg/app"),
    ("mongodb+srv://app:a:b!$&'()*+,;=@c/?w=1", ("app", "a:b!$&'()*+,;="), "mongodb+srv://app_1:N3w-._~@c/?w=1"),
    ("postgresql+psycopg://a%20b:old@db", ("a b", "old"), "postgresql+psycopg://app_1:N3w-._~@db"),
    ("postgresql://app:@db", ("app", ""), "postgresql://app_1:N3w-._~@db"),
    ("postgresql://\u00e4pp:sch\u00f6n@db", ("\u00e4pp", "sch\u00f6n"), "postgresql://app_1:N3w-._~@db"),
    (
        "jdbc:postgresql://db:5432/app?user=app&ssl=true&password=p%26%3dw&x=1",
        ("app", "p&=w"),
        "jdbc:postgresql://db:5432/app?user=app_1&ssl=true&password=N3w-._~&x=1",
    ),
    ("postgresql:///app?password=old&user=app", ("app", "old"), "postgresql:///app?password=N3w-._~&user=app_1"),
    # Another parameter only looks like one.
    (
        "jdbc:postgresql://db/app?sslpassword=k&user=app&password=old",
        ("app", "old"),
        "jdbc:postgresql://db/app?sslpassword=k&user=app_1&password=N3w-._~",
    ),
]


@pytest.mark.parametrize(("text", "login", "after"), REPLACED)
def test_the_login_is_replaced_and_nothing_else(text, login, after):
    uri = uris.parse(text, "DATABASE_URL")
    assert (uri.user, uri.password) == login
    assert uri.with_login(*NEW) == after
    assert uri.with_login(*login) == text
    assert uris.fill(uri.template, uris.login_part(*NEW), "") == after
    assert uris.login_in(text) == uris.login_part(*login)
    # Who goes back gets what was there, to the letter.
    assert uris.fill(after, uris.login_part(*login), "", uri.spelling) == text
    assert uris.fill(after, uris.login_part("b", "c"), "", uri.spelling) == uri.with_login("b", "c")
    if uri.password:
        assert f":{uri.password}@" not in uri.template and "N3w" not in uri.template


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no URI such as"),
        ("host=db user=app password=old", "is no URI such as"),
        ("postgresql:app:old@db", "is no URI such as"),
        ("postgresql://db/app", "has neither"),
        ("postgresql://db/app?sslmode=require", "has neither"),
        ("postgresql://app@db/app", "lacks the user or the password before its host"),
        ("redis://:old@db", "lacks the user or the password before its host"),
        ("postgresql://db/app?password=old", "has password"),
        ("postgresql://db/app?user=a&password=b&password=c", "has password and password and user"),
        ("postgresql://app@db/app?password=old", "a login before its host and user or password after it"),
        ("postgresql://app:old@db/app?user=b", "a login before its host and user or password after it"),
        # Some programs take the first @ for the end of the login, some the last; some end it at a slash.
        ("postgresql://app:o@ld@db/app", "an @ too many"),
        ("postgresql://app:o/ld@db/app", "a reserved character in its login"),
        ("postgresql://app:o#ld@db/app", "a reserved character in its login"),
        ("postgresql://app:o?ld@db/app", "has neither"),
        ("postgresql://app:o%ld@db/app", "begins no escape; write %25"),
        ("postgresql://a%2:old@db/app", "begins no escape; write %25"),
        ("postgresql://app:%ff@db/app", "is not UTF-8"),
        ("jdbc:postgresql://db/app?user=a&password=b#c", "has a # after its login"),
    ],
)
def test_what_programs_read_differently_is_refused_in_a_line(text, said):
    with pytest.raises(SecretsError) as error:
        uris.parse(text, ".env: DATABASE_URL")
    assert error.value.message.startswith(".env: DATABASE_URL: ") and said in error.value.message
    assert "\n" not in error.value.message and "ld" not in error.value.message.replace("holds", "")
    assert uris.login_in(text) is None


def test_any_login_comes_out_as_it_went_in_whoever_reads_it():
    chance = random.Random(4)
    for _turn in range(300):
        user, password = (
            "".join(chr(chance.choice([chance.randint(32, 126), 233, 8364])) for _place in range(9)) for _part in "ab"
        )
        text = uris.parse("postgresql://a:b@db:1/x?y=z", "").with_login(user, password)
        read = urlsplit(text)
        assert (unquote(read.username), unquote(read.password), read.hostname) == (user, password, "db")
        assert (uris.parse(text, "").user, uris.parse(text, "").password) == (user, password)
        query = urlsplit(uris.parse("jdbc:x://db/x?user=a&password=b", "").with_login(user, password)[len("jdbc:") :])
        assert parse_qs(query.query) == {"user": [user], "password": [password]}
