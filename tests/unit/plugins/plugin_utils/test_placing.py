# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import placing


def server(service: str, named: bool = False) -> dict:
    return {"service": service, "named": named, "engine": "postgresql"}


def survey(**servers: list) -> dict:
    return {host: {"servers": {"postgres": found}} for host, found in servers.items()}


def home(catalog: dict, **servers: list) -> tuple[str, str]:
    host, row = placing.homes(catalog, survey(**servers))["postgres"]
    return host, row["service"]


def test_a_server_is_where_its_service_is():
    assert home({"postgres": {}}, db1=[server("postgres", named=True)], app1=[]) == ("db1", "postgres")


def test_a_name_comes_before_an_image():
    found = {"app1": [server("cache-db")], "db1": [server("postgres", named=True)]}
    assert home({"postgres": {}}, **found) == ("db1", "postgres")


@pytest.mark.parametrize(
    ("catalog", "servers", "said"),
    [
        ({}, {"db1": [], "app1": []}, r"no service on db1 or app1 matches; add .*host: HOST, service: NAME"),
        ({"host": "app1"}, {"db1": [server("postgres")], "app1": []}, "no service on app1 matches"),
        ({"host": "db9"}, {"db1": [server("postgres")]}, "db9 is no host of this play; there are db1"),
        (
            {},
            {"db1": [server("postgres", True)], "app1": [server("postgres", True)]},
            r"postgres on db1 and postgres on app1 match; .*postgres: {host: db1, service: postgres}",
        ),
    ],
)
def test_none_or_two_servers_are_refused_with_the_line_to_add(catalog, servers, said):
    with pytest.raises(SecretsError, match=said):
        placing.homes({"postgres": catalog}, survey(**servers))


def test_a_server_elsewhere_is_asked_from_the_first_host():
    row = {**server("db.example.com:5432"), "anywhere": True}
    assert home({"postgres": {}}, app1=[row], app2=[row]) == ("app1", "db.example.com:5432")


def test_the_catalog_says_which_of_two_it_is():
    both = {"db1": [server("postgres", True)], "db2": [server("postgres", True)]}
    assert home({"postgres": {"host": "db2"}}, **both) == ("db2", "postgres")


def test_what_is_wrong_with_another_entry_is_no_matter():
    found = survey(db1=[server("postgres", True)])
    found["db1"]["servers"]["lost"] = []
    assert list(placing.homes({"postgres": {}, "lost": {}}, found, ["postgres"])) == ["postgres"]
    with pytest.raises(SecretsError, match="lost: no service on db1 matches"):
        placing.homes({"postgres": {}, "lost": {}}, found)


def info(*consumers: str, **more) -> dict:
    facts = {
        "name": "postgres",
        "service": "postgres",
        "consumers": list(consumers),
        "env": {"fingerprints": {}},
        "unused": [],
        "serves": False,
        "variables": {"user": "U", "password": "P"},
        "literal_user": [],
        "plan": {
            "waves": [[{"service": name} for name in consumers]],
            "refusals": [{"kind": "weak", "text": f"{name} is weak"} for name in consumers],
        },
    }
    return {
        "credentials": {"postgres": facts},
        "project": {"env_file": "/srv/.env"},
        "addresses": {},
        "own_addresses": [],
        "pending_changes": [[name, "recreate"] for name in consumers],
        "image_drift": [],
        **more,
    }


def test_what_several_hosts_say_is_said_of_each_service_on_its_host():
    infos = [("db1", info()), ("app1", info("orders", "mailer")), ("app2", info()), ("app3", info("mailer"))]
    merged = placing.placed(infos, {"postgres": "db1"})
    facts = merged["credentials"]["postgres"]
    assert facts["host"] == "db1" and facts["consumers"] == ["app1/orders", "app1/mailer", "app3/mailer"]
    # The server's host has an .env to keep in step even without a consumer; a host that has neither is left alone.
    assert [place["host"] for place in facts["places"]] == ["db1", "app1", "app3"]
    assert [row["text"] for row in facts["plan"]["refusals"]][-1] == "app3: mailer is weak"
    assert merged["pending_changes"][-1] == ["app3/mailer", "recreate"]


def test_a_credential_that_nobody_uses_on_any_host_is_refused():
    with pytest.raises(SecretsError, match="no service on db1 or app1 uses P"):
        placing.placed([("db1", info()), ("app1", info())], {"postgres": "db1"})


def test_a_single_host_keeps_the_names_of_its_services():
    facts = placing.placed([("db1", info("orders"))])["credentials"]["postgres"]
    assert facts["consumers"] == ["orders"] and facts["places"][0]["env_file"] == "/srv/.env"


HOSTS = {
    "db1": {"addresses": {"172.18.0.3": "reporter"}, "own_addresses": ["10.0.0.1", "172.18.0.1"]},
    "app1": {"addresses": {"172.18.0.2": "orders"}, "own_addresses": ["10.0.0.2", "172.18.0.1"]},
    "app2": {"addresses": {"172.18.0.2": "billing"}, "own_addresses": ["10.0.0.3", "172.18.0.1", "172.17.0.1"]},
    "app3": {"addresses": {}, "own_addresses": ["10.0.0.4", "172.17.0.1"]},
}
FACTS = {
    "host": "db1",
    "places": [
        {"host": "db1", "consumers": ["reporter"]},
        {"host": "app1", "consumers": ["orders", "mailer"]},
        {"host": "app2", "consumers": ["billing"]},
    ],
}


def test_behind_a_host_is_whoever_it_may_be():
    who = placing.clients(FACTS, HOSTS, {"db1": {"172.18.0.9": "reporter"}})
    assert who == {
        "172.18.0.9": "db1/reporter",
        "10.0.0.1": "db1",
        "172.18.0.1": "db1",
        "10.0.0.2": "app1 (one of orders, mailer)",
        "10.0.0.3": "app2/billing",
        "10.0.0.4": "app3",
    }


def test_behind_a_host_whoever_was_skipped_goes_on():
    who = placing.clients(FACTS, HOSTS, {}, {"app1/mailer"})
    assert who["10.0.0.2"] == "app1/mailer" and who["10.0.0.3"] == "app2/billing"


def test_on_a_single_host_containers_alone_are_known():
    hosts = {"db1": {"addresses": {"172.18.0.3": "reporter"}, "own_addresses": []}}
    assert placing.clients(FACTS, hosts, {}) == {"172.18.0.3": "reporter"}
