# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people read: plan, progress lines, summary, ``STOPPED`` block and status table, in 100 columns."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Iterable
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.api_tokens import known_variable

WIDTH = 100
# After the name of a variable: where its value is, when it is not in .env.
ORIGINS = {
    "variable": "",
    "literal": ", typed in",
    "env_file": ", in another file",
    "secret": ", a Compose secret",
    "none": "no password",
}
UNTESTED = "a person brings it; nobody here can test it, so the consumers' health is the evidence"
MODES = {"start_first": "start-first", "stop_first": "STOP-FIRST", "job": "job, run again"}


def duration(seconds: float) -> str:
    """Return a length of time as a person says it: ``5.2 s``, ``41 s``, ``1 min 14 s``, ``3 h 5 min``, ``90d``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400}d"


def clock() -> str:
    """Return the local time of day, as every line begins with it."""
    return datetime.datetime.now().astimezone().strftime("%H:%M:%S")


def command(playbook: str, **given: str) -> str:
    """Return what is typed to run a playbook; of ``given``, its extra variables, empty ones are left out."""
    extra = "".join(f" -e {name}={value}" for name, value in given.items() if value)
    return f"ansible-playbook chat4all.secrets.{playbook}{extra}"


def ending(name: str) -> str:
    """Return what is typed when a person has ended the old value of a credential."""
    return command("revoke", revoke=name, confirmed="true")


def to_end(name: str) -> str:
    """Return what is left for a person to do where nobody here can end the old value of a credential."""
    return f"end the old value of {name} where it was issued, then: {ending(name)}"


def service(consumer: str) -> str:
    """Return a consumer's service as Compose is told it: of several hosts, ``app1/mailer`` is ``mailer`` on app1."""
    host, _slash, name = consumer.rpartition("/")
    return f"{name} on {host}" if host else name


def line(host: str, step: str, text: str) -> str:
    """Return one line of a run."""
    return f"{clock()} {host:<5} {step.replace('_', ' '):<9} {text}"


def field(label: str, text: str, width: int = 9) -> list[str]:
    """Return ``label  text``, wrapped below itself."""
    head = f"  {label:<{width}}"
    return textwrap.wrap(
        head + text, WIDTH, subsequent_indent=" " * len(head), break_long_words=True, break_on_hyphens=False
    )


def _plan_title(name: str, project: dict[str, Any]) -> str:
    note = "nothing will be touched"
    return f"PLAN  {name}  {project['name']}".ljust(WIDTH - len(note)) + note


def small_plan(name: str, project: dict[str, Any], resume: str, going: str) -> list[str]:
    """Return the plan of a run that only goes back, or only ends an old value."""
    return [_plan_title(name, project), *(field("resume", resume) if resume else []), *field("effect", going)]


def plan(
    facts: dict[str, Any],
    project: dict[str, Any],
    host: str,
    user: str,
    new_user: str,
    resume: str,
    last: dict[str, Any],
    skipped: Iterable[str] = (),
) -> list[str]:
    """Return the plan that ``--check`` prints; ``last`` is what the last rotation has measured."""
    lines = [_plan_title(facts["name"], project)]
    image = facts["image"].rsplit("/", 1)[-1]
    if not facts["service"]:
        change = ""
        lines += field("value", facts.get("about", {}).get("value", UNTESTED))
    elif facts["strategy"] == "pair":
        change = f"user {user} -> {new_user}"
        if user == facts["role"]:
            change += " (first rotation: users are created)"
    else:
        change = f"user {user}, new password in place"
    if change:
        place = facts["service"] if facts.get("address") else f"{host}:{facts['service']}"
        lines += field("server", f"{place} ({image})   {change}")
    if resume:
        lines += field("resume", resume)
    lines += field("effect", _effect(facts))
    for place in facts["places"]:
        variables = ", ".join(sorted(facts["variables"].values()))
        lines += field("publish", f"{place['env_file']} on {place['host']}: {variables}")
    files = facts.get("files", [])
    skipped = list(skipped)
    for one in files:
        what = "skipped, it stays stale" if one["name"] in skipped else ", ".join(sorted(one["variables"].values()))
        lines += field("publish", f"{one['path']} on {one['host'] or host}: {what}")
    override = {path.rsplit("/", 1)[-1] for path in [*project["files"], facts.get("pin", "")] if ".override." in path}
    if override and facts["service"] and not facts.get("address"):
        lines += field("override", f"{', '.join(sorted(override))}: pins {facts['service']}'s first-start values")
    lines.append("  roll out")
    for number, wave in enumerate(facts["plan"]["waves"], 1):
        for index, service in enumerate(wave):
            gap = last.get("gaps", {}).get(service["service"])
            lines.append(_plan_row(number if index == 0 else None, service, gap))
    commands = [one for one in files if one["after"] and one["name"] not in skipped]
    for index, one in enumerate(commands):
        number = f"{len(facts['plan']['waves']) + 1}" if index == 0 else " "
        lines.append(f"    {number}  {one['name']:<20} {' '.join(one['after']):<32} exit code 0"[:WIDTH].rstrip())
    for service in (service for wave in facts["plan"]["waves"] for service in wave if service.get("called_by")):
        lines += field(
            "direct",
            f"{', '.join(service['called_by'])} calls {service['service']} by its name, without the proxy: some of these "
            "calls fail while it is replaced (the engine's DNS shows a new container before it is healthy)",
        )
    estimate = f"      estimate {duration(last['seconds'])} (the last run)" if last.get("seconds") else ""
    lines += field("by hand", _by_hand(facts) + estimate)
    return lines


def _by_hand(facts: dict[str, Any]) -> str:
    if "about" in facts:
        return str(facts["about"]["by_hand"])
    if facts["type"] == "person":
        return to_end(facts["name"])
    ends = "same run, once no session uses it" if not facts["grace"] else f"after {duration(facts['grace'])} of grace"
    persons = facts.get("persons", [])
    if not persons:
        return f"none      old value ends: {ends}"
    ends = f"once confirmed, {ends}" if facts["grace"] else "once confirmed"
    return f"{', '.join(persons)} confirm{'s' if len(persons) == 1 else ''}      old value ends: {ends}"


def _effect(facts: dict[str, Any]) -> str:
    gaps = [s["service"] for wave in facts["plan"]["waves"] for s in wave if s["mode"] == "stop_first"]
    direct = f"; {_count(gaps, 'service')} with a gap: {', '.join(gaps)}" if gaps else ""
    if "about" in facts:
        return str(facts["about"]["effect"]) + direct
    if facts["type"] == "person":
        return "none, as long as whoever issued the values accepts both" + direct
    if facts["type"] == "gap":
        return "logins ARE refused from 'set' until each service is replaced (single_user)" + direct
    return "no refused logins expected" + direct


def _plan_row(number: int | None, service: dict[str, Any], gap: float | None) -> str:
    name = service["service"] + (f" x{service['scale']}" if service["scale"] > 1 else "")
    how = MODES[service["mode"]] + (f" ({service['reason']})" if service["mode"] == "stop_first" else "")
    how += f", gap about {duration(gap)}" if gap and service["mode"] == "stop_first" else ""
    if service["after"]:
        how += f", then {service['after']}"
    return f"    {number or ' '}  {name:<20} {how:<32} {service['evidence']}"[:WIDTH].rstrip()


def summary(facts: dict[str, Any], user: str, outcome: dict[str, Any]) -> list[str]:
    """Return what a run ends with: what moved, how long, refused logins, what is still to be revoked and when."""
    gaps = ", ".join(f"{name} {duration(gap)}" for name, gap in outcome["gaps"].items()) or "none"
    refused = "not counted" if outcome["refused"] is None else outcome["refused"]
    if facts.get("address"):
        refused = "not counted (the server's log is elsewhere)"
    evidence = f"refused logins {refused}"
    skipped = outcome["skipped"]
    files = {one["name"]: one["path"] for one in facts.get("files", [])}
    moved = _moved(facts["consumers"], skipped, "service")
    if files:
        moved += f" and {_moved(list(files), skipped, 'file')}"
    moved += f" on {user}"
    if facts["type"] == "person":
        evidence = "not tested; evidence: health of the services"
        old = "old value: ended by hand" if outcome["refused_at"] else "old value: valid until a person ends it"
    elif outcome["refused_at"]:
        old = f"old password: dead (refused {outcome['refused_at']})"
    else:
        old = f"old password: valid until {outcome['revoke_after'] or 'it is revoked'}"
    lines = [
        f"{outcome['word']}  {facts['name']}   {duration(outcome['seconds'])}   {evidence}   gaps: {gaps}",
        f"  {moved}   {old}   next due {outcome['due']}",
    ]
    tasks = [
        f"{name} keeps the old value: copy .env's values into {files[name]} and restart it"
        if name in files
        else f"{name} keeps the old value: once it can start, docker compose up -d {service(name)}"
        for name in skipped
    ]
    waiting = outcome.get("waits_for", [])
    if facts["type"] == "person" and not outcome["refused_at"]:
        tasks.append(to_end(facts["name"]))
    elif waiting and not outcome["refused_at"]:
        tasks.append(to_confirm(facts["name"], waiting))
    elif not outcome["refused_at"]:
        when = f"after {outcome['revoke_after']}" if outcome["revoke_after"] else "then"
        tasks.append(f"{when}: {command('revoke', revoke=facts['name'])}")
    lines += [f"  To do: {task}." for task in tasks] or ["  To do: nothing."]
    return lines


def token_summary(facts: dict[str, Any], outcome: dict[str, Any]) -> list[str]:
    """Return what a run with a platform's token ends with.

    ``todo`` is what has to be done to end the old one, ``valid`` until when it is accepted where this run has not ended it.
    """
    gaps = ", ".join(f"{name} {duration(gap)}" for name, gap in outcome["gaps"].items()) or "none"
    consumers, skipped = len(facts["consumers"]), outcome["skipped"]
    old = f"ended ({outcome['refused_at']})" if outcome["refused_at"] else facts["valid"]
    lines = [
        f"{outcome['word']}  {facts['name']}   {duration(outcome['seconds'])}   {facts['title']} accepts the new token   "
        f"gaps: {gaps}",
        f"  {consumers - len(skipped)}/{consumers} services on the new token   old token: {old}   next due {outcome['due']}",
    ]
    if facts["engine"] == "telegram":
        lines += field("Gap", "began when BotFather issued the new token, before this run, and is over now", width=5)
    tasks = [f"{name} keeps the old token: once it can start, docker compose up -d {name}" for name in skipped]
    tasks += [facts["todo"]] if facts["todo"] else []
    for task in tasks or ["nothing"]:
        lines += field("To do:", f"{task}.", width=7)
    return lines


def webhook_summary(facts: dict[str, Any], title: str, outcome: dict[str, Any]) -> list[str]:
    """Return what a run with a webhook's secret ends with."""
    gaps = ", ".join(f"{name} {duration(gap)}" for name, gap in outcome["gaps"].items()) or "none"
    consumers = len(facts["consumers"])
    old = f"ended ({outcome['refused_at']})" if outcome["refused_at"] else f"accepted until {outcome['revoke_after']}"
    lines = [
        f"{outcome['word']}  {facts['name']}   {duration(outcome['seconds'])}   {title} sends the new secret   gaps: {gaps}",
        f"  {consumers}/{consumers} services accept it   old secret: {old}   next due {outcome['due']}",
    ]
    todo = "nothing" if outcome["refused_at"] else f"after that: {command('revoke', revoke=facts['name'])}"
    return [*lines, f"  To do: {todo}."]


def jwt_plan(
    facts: dict[str, Any], project: dict[str, Any], phase: str, order: list[list[str]], effect: str
) -> list[str]:
    """Return the plan of one phase of a signing key; ``order``: the services in the groups that follow each other."""
    lines = _plan_title(f"{facts['name']} {phase}", project)
    rows = [lines, *field("effect", effect)]
    for place in facts["places"]:
        used = sorted(variable for part, variable in place["variables"].items() if place["used_by"][part])
        rows += field("publish", f"{place['env_file']} on {place['host']}: {', '.join(used)}")
    rows.append("  roll out")
    number = 0
    for group in order:
        for wave in facts["plan"]["waves"]:
            mine = [service for service in wave if service["service"] in group]
            number += bool(mine)
            for index, service in enumerate(mine):
                rows.append(_plan_row(number if index == 0 else None, service, None))
    return rows


def jwt_summary(head: str, seconds: float, gaps: dict[str, float], lines: list[str]) -> list[str]:
    """Return what one phase of a signing key ends with."""
    gap = ", ".join(f"{name} {duration(length)}" for name, length in gaps.items()) or "none"
    rows = [f"{head}   {duration(seconds)}   gaps: {gap}"]
    for text in lines:
        rows += textwrap.wrap(f"  {text}", WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return rows


def stopped(name: str, step: str, reason: str, fields: Iterable[tuple[str, str]]) -> list[str]:
    """Return the block with which every failure ends; customer impact comes first in ``fields``."""
    lines = textwrap.wrap(
        f"STOPPED  {name} at {step.replace('_', ' ')}: {reason}",
        WIDTH,
        subsequent_indent="         ",
        break_on_hyphens=False,
    )
    for label, text in fields:
        lines += field(label, text, width=11)
    return lines


def aborted(name: str, step: str, user: str, working: str) -> list[str]:
    """Return what ``abort.yml`` ends with."""
    head = f"ABORTED  {name}, which stood at {step.replace('_', ' ')}: back on {user}, the new value is retired"
    return [*textwrap.wrap(head, WIDTH, subsequent_indent="         "), *field("Services", working, width=11)]


def status_table(rows: list[dict[str, str]]) -> list[str]:
    """Return the table of ``status.yml``; a column is wider where what stands in it is."""
    columns = (
        ("CREDENTIAL", "name", 12),
        ("TYPE", "type", 8),
        ("AGE", "age", 5),
        ("DUE", "due", 6),
        ("LAST", "last", 8),
    )
    widths = [max([least, *(len(row[key]) + 1 for row in rows)]) for _title, key, least in columns]
    head = "".join(f"{title:<{width}}" for (title, _key, _least), width in zip(columns, widths, strict=True)) + "NOW"
    lines, indent = [head], " " * min(sum(widths), WIDTH // 2)
    for row in rows:
        start = "".join(f"{row[key]:<{width}}" for (_title, key, _least), width in zip(columns, widths, strict=True))
        lines += textwrap.wrap(start + row["now"], WIDTH, subsequent_indent=indent, drop_whitespace=True)
    return lines


def findings(seen: dict[str, Any], host: str) -> list[str]:
    """Return what ``adopt.yml`` says of a deployment; ``seen`` is what the module adopt_info returns."""
    rows = [
        (
            one["name"],
            one["engine"],
            host,
            " + ".join(filter(None, (one["user_variable"], one["variable"]))) + ORIGINS[one["place"]],
            _count(one["consumers"], "service"),
        )
        for one in seen["found"]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "FOUND  " + "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    asked = {one["variable"] for one in seen["ask"] if one["place"] == "variable"}
    notes = [
        (
            "ASK",
            f"{one['variable']} ({', '.join(one['services'])}){ORIGINS[one['place']]}: " + _drafted(one, asked),
        )
        for one in seen["ask"]
    ]
    for label, text in [*notes, *(("WARN", text) for text in seen["warn"])]:
        lines += textwrap.wrap(
            f"{label:<7}{text}", WIDTH, subsequent_indent=" " * 7, break_long_words=False, break_on_hyphens=False
        )
    return lines


def _drafted(one: dict[str, Any], asked: set[str]) -> str:
    known = known_variable(one["variable"], asked) if one["place"] == "variable" else None
    written = one["place"] == "variable" and one["in_env"]
    if not known:
        return "no engine known" + (" -> written as engine: manual" if written else "")
    if known.beside in asked:
        return f"goes with {known.beside}"
    what = {"jwt": "a signing key", "webhook": "a webhook's secret"}.get(known.engine, f"a token of {known.engine}")
    if known.lacks:
        return f"{what}; {known.lacks}"
    return what + (f" -> written as engine: {known.engine}" if written else "")


def _moved(names: list[str], skipped: list[str], noun: str) -> str:
    return f"{len([one for one in names if one not in skipped])}/{len(names)} {noun}s"


def to_confirm(name: str, persons: Iterable[str], short: bool = False) -> str:
    """Return what is to be done about the persons who still have an old value."""
    persons = list(persons)
    has = "has" if len(persons) == 1 else "have"
    then = command("revoke", revoke=name, confirmed=",".join(persons))
    if short:
        then = then.removeprefix("ansible-playbook chat4all.secrets.")
    return f"{' and '.join(persons)} still {has} the old value; then: {then}"


def _count(items: list[str], noun: str) -> str:
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")
