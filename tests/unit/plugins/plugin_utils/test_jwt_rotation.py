# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A signing key in a catalog: provisioned, adopted and shown as every other credential, beside the others."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from ansible.parsing.vault import VaultSecret
from ansible_collections.chat4all.secrets.plugins.action.rotation_queue import check_emergency, to_rotate
from ansible_collections.chat4all.secrets.plugins.module_utils import catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import meant
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import checked_catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.fingerprints import fingerprint
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import seal
from ansible_collections.chat4all.secrets.plugins.module_utils.state import StateFile
from ansible_collections.chat4all.secrets.plugins.modules.deployment_state import carry_out
from ansible_collections.chat4all.secrets.plugins.plugin_utils import deployment, jwt_keys, jwt_rotation, provisioning
from ansible_collections.chat4all.secrets.plugins.plugin_utils.adopting import Adoption
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.hosts import Unreachable
from ansible_collections.chat4all.secrets.plugins.plugin_utils.provisioning import Provisioning
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import is_unfinished
from ansible_collections.chat4all.secrets.plugins.plugin_utils.serverless import rotation_of
from ansible_collections.chat4all.secrets.plugins.plugin_utils.status import Status

STATE_OPTIONS = {
    **dict.fromkeys(("rotation", "owner", "take_lock", "dead_owner", "store_id", "serial")),
    "record": {},
    "forget": True,
    "outcome": {},
    "ledger": [],
}
KEY, SECOND, JWKS, KID = "JWT_SIGNING_KEY", "JWT_SIGNING_KEY_SECONDARY", "JWT_JWKS", "JWT_KEY_ID"


class Killed(BaseException):
    """The end of a run that nobody sees coming."""


class World:
    """One host with an ``.env``, a store, and a catalog of a signing key and of a value that a person brings."""

    def __init__(self, tmp_path, env=None, uses=(KEY, SECOND), in_use=False, **entry):
        self.env, self.uses, self.in_use = {"SMTP": "mail-1", **(env or {})}, uses, in_use
        self.lines, self.replaced, self.fails, self.written = [], [], "", []
        self.path, self.state_dir, self.clock_off = tmp_path / ".secrets-store.yml", tmp_path / "state", 0
        given = {"jwt": entry, "smtp": {"engine": "manual", "variables": {"secret": "SMTP"}}}
        self.catalog = checked_catalog(given)
        self.vault = [("default", VaultSecret(b"one"))]
        action = SimpleNamespace(
            _task=SimpleNamespace(check_mode=False),
            _loader=SimpleNamespace(_vault=SimpleNamespace(secrets=self.vault)),
        )
        arguments = {"project_dir": "/srv/app", "catalog": given, "services": {}, "store": {"path": str(self.path)}}
        self.deployment = one = Deployment(action, arguments, {"inventory_hostname": "db1"})
        silent = SimpleNamespace(_low_level_execute_command=lambda _command: {"stdout": ""})
        one.first = SimpleNamespace(
            name="db1",
            state_dir="/srv/app/.chat4all",
            module=self.module,
            project=dict,
            arguments=arguments,
            beside=lambda: SimpleNamespace(action=silent),
        )
        one._hosts = [one.first]
        one.require_discretion = lambda: None
        one.line = lambda _step, text, *_host: self.lines.append(text)
        one.show = lambda rows, **_color: self.lines.extend(rows)

    def module(self, name, **given):
        return getattr(self, name)(**given)

    def deployment_state(self, **given):
        found = carry_out({**STATE_OPTIONS, **given, "path": str(self.state_dir)}, check_mode=False)
        found["clock"]["wall"] += self.clock_off
        return found

    def ledger(self):
        """What the ledger says last: step, phase and key."""
        row = json.loads((self.state_dir / "ledger.jsonl").read_text().splitlines()[-1])
        return row["step"], row.get("phase"), row.get("user")

    def outcome(self):
        return self.deployment.memory()["outcomes"]["jwt"]["result"]

    def dies(self, *given, **jwt):
        """A run that dies between its last change of the store and the end of its lock, for which nobody waits."""

        def release(*_given, **_more):
            raise Killed

        self.deployment.release, before = release, self.deployment.release
        with pytest.raises(Killed):
            turn(self, *given, **jwt)
        self.deployment.release = before
        StateFile(str(self.state_dir)).update(lambda state: state.update(lease=None))

    def compose_rollout(self, services, fingerprints, mask_variables, progress, **_given):
        assert set(mask_variables) == {KEY, SECOND} and progress.startswith("/srv/app/.chat4all/runs/r-")
        store = self.deployment.store
        assert fingerprints == {name: store.fingerprint(self.env[name]) for name in fingerprints} != {}
        if self.fails:
            raise SecretsError(self.fails)
        self.replaced += services
        return {"changed": bool(services), "services": {name: {"gap_s": 0} for name in services}}

    def env_file(self, values, ledger=(), **_given):
        self.env |= values
        self.written += ledger
        return {"changed": False, "added": [], "updated": []}

    def catalog_info(self, fingerprint_key, seal_key=None, credentials=(), **_given):
        project = SimpleNamespace(
            services={},
            directory="/srv/app",
            consumers=lambda names: {name: {"app"} if name in (*self.uses, "SMTP") else set() for name in names},
        )
        facts, found = {}, {}
        for name in credentials or self.catalog:
            facts[name] = one = catalog.resolve(name, self.catalog[name], project)
            held = {variable: self.env[variable] for variable in one["variables"].values() if variable in self.env}
            key = bytes.fromhex(fingerprint_key)
            kept = meant(held, one["variables"], self.in_use)
            one["env"] = {"fingerprints": {variable: fingerprint(key, held[variable]) for variable in kept}}
            one |= {"siblings": [], "has_data": True, "in_use": self.in_use}
            one["plan"] = {"waves": [], "refusals": one.get("objections", [])}
            found[name] = held
        sealed = {"sealed": seal(bytes.fromhex(seal_key), json.dumps(found).encode())} if seal_key else {}
        project_of = {"name": "app", "files": [], "env_file": "/srv/app/.env"}
        more = {"addresses": {}, "pending_changes": [], "image_drift": [], "project": project_of}
        return {"credentials": facts, **more, **sealed}

    def provision(self, drift="refuse"):
        stored = Provisioning(self.deployment, {"drift": drift}).store()
        rest = Provisioning(self.deployment, {"drift": drift, "info": stored["info"]})
        rest.render()
        rest.separate()
        return stored["changed"]

    def adopt(self, step="store", **arguments):
        return getattr(Adoption(self.deployment, arguments), step)()["changed"]

    def status(self):
        return {row["name"]: row["now"] for row in Status(self.deployment).show()["credentials"]}

    @property
    def entry(self):
        return self.deployment.entry("jwt")


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    assert one.provision()
    return one


def test_provisioned_twice_nothing_is_changed(world):
    entry, env = world.entry, dict(world.env)
    assert env[KEY] == entry["current"]["password"] and env[SECOND] == entry["spare"]["password"]
    assert not world.provision() and (world.entry, world.env) == (entry, env)


def test_keys_that_a_phase_has_published_stay_when_it_is_provisioned(world):
    entry = world.entry
    target = {"phase": "introduce", "rotation": "r-1", "current": entry["current"], "next": jwt_keys.make("HS256")}
    world.deployment.store.change(lambda stored: stored["jwt"].update(target=target))
    world.env[SECOND] = target["next"]["password"]
    assert not world.provision() and world.env[SECOND] == target["next"]["password"]


def test_a_key_in_use_is_adopted(tmp_path):
    one = World(tmp_path, {KEY: "k" * 64, SECOND: ""}, in_use=True)
    assert one.adopt() and one.entry["current"]["password"] == "k" * 64
    assert not one.adopt() and not one.provision() and one.env[KEY] == "k" * 64
    other = World(tmp_path / "other")
    other.path.parent.mkdir()
    assert other.adopt() and f"jwt: .env holds no {KEY}; nothing to import" in other.lines


def test_another_credential_is_accepted_beside_it(world):
    entry, world.env["SMTP"] = world.entry, "mail-2"
    assert "DRIFT" in world.status()["smtp"]
    assert world.adopt("accept", accept=["smtp"])
    assert world.deployment.entry("smtp")["current"]["password"] == "mail-2" and world.entry == entry


def test_its_own_value_is_accepted(world):
    assert not world.adopt("accept", accept=["jwt"])
    assert world.lines[-1] == "jwt: .env holds the store's value already"
    world.env[KEY] = "n" * 64
    assert world.status()["jwt"].startswith("DRIFT")
    with pytest.raises(SecretsError, match="^DRIFT jwt: .env holds another"):
        world.provision()
    assert world.adopt("accept", accept=["jwt"]) and world.entry["current"]["password"] == "n" * 64
    assert "DRIFT" not in world.status()["jwt"] and not world.provision()


def test_the_stores_keys_are_put_back(world):
    before = dict(world.env)
    world.env[KEY] = "n" * 64
    assert not world.provision(drift="replace") and world.env == before


def test_it_is_read_again_where_nobody_can_open_the_store(world):
    key, second = world.env[KEY], world.env[SECOND]
    world.vault[:] = [("default", VaultSecret(b"two"))]
    world.deployment._store = None
    assert world.adopt("reseal")
    assert world.entry["current"]["password"] == key and world.entry["previous"]["password"] == second
    assert not world.provision() and (world.env[KEY], world.env[SECOND]) == (key, second)


def pair(day=1):
    return {**jwt_keys.make("ES256"), "created": f"2026-01-{day:02}T00:00:00+00:00"}


def written(*slots, kid=True):
    """A JWKS document as others write it."""
    keys = json.loads(jwt_keys.jwks(*slots))["keys"]
    return json.dumps(
        {"keys": [{**dict(reversed(one.items())), "kid": f"their {n}"} for n, one in enumerate(keys)]}, indent=1
    )


def test_a_document_that_others_have_written_is_kept_until_a_phase_has_other_keys(tmp_path):
    mine = pair()
    text = written(mine)
    env = {KEY: mine["password"], JWKS: text, KID: "their 0"}
    one = World(tmp_path, env, uses=(KEY, JWKS, KID), in_use=True, algorithm="ES256")
    assert one.provision() and one.env == {**env, "SMTP": "mail-1"} and not one.provision()
    assert "DRIFT" not in one.status()["jwt"]
    introduced = {"current": one.entry["current"], "next": pair(2)}
    found = json.loads(jwt_keys.values({"key": KEY, "jwks": JWKS}, introduced)[JWKS])["keys"]
    assert {key["kid"] for key in found} == {"their 0", introduced["next"]["user"]}


def test_an_id_that_signers_use_stays(tmp_path):
    env = {KEY: pair()["password"], KID: "theirs"}
    one = World(tmp_path, env, uses=(KEY, JWKS, KID), in_use=True, algorithm="ES256")
    assert one.provision() and one.entry["current"]["user"] == one.env[KID] == "theirs"


def test_other_keys_of_a_document_are_verified_with_until_their_tokens_are_dead(tmp_path):
    old, mine = pair(), pair(2)
    env = {KEY: mine["password"], JWKS: jwt_keys.jwks(old, mine)}
    one = World(tmp_path, env, uses=(KEY, JWKS), in_use=True, algorithm="ES256")
    assert one.provision() and one.env[JWKS] == env[JWKS] and not one.provision()
    entry = one.entry
    assert entry["previous"]["user"] == old["user"] and entry["current"]["user"] == mine["user"]
    assert "is accepted too; 1/1 services; next: retire from" in one.status()["jwt"]
    after = jwt_rotation.jwt_schedule.begun(entry, "retire", None, None)
    [left] = json.loads(jwt_keys.values({"key": KEY, "jwks": JWKS}, after)[JWKS])["keys"]
    assert left["kid"] == mine["user"]


def test_a_document_without_the_key_that_signs_is_refused(tmp_path):
    env = {KEY: pair()["password"], JWKS: jwt_keys.jwks(pair(2))}
    with pytest.raises(SecretsError, match="the JWKS document beside it lacks its public key"):
        World(tmp_path, env, uses=(KEY, JWKS), in_use=True, algorithm="ES256").provision()


def opened(world, purpose="rotate", **jwt):
    """What *open* returns; only the plan is wanted."""
    world.deployment.check_mode = True
    given = {"skip_services": [], "drift": "refuse", "accept_weak": False, "take_lock": None, "rollout": {}}
    return rotation_of(world.deployment, "jwt", {**given, "purpose": purpose, "jwt": jwt}).open()


def begin(world, phase, **slots):
    """Leave a phase behind that was begun."""
    target = {"phase": phase, "rotation": "r-1", **slots}
    world.deployment.store.change(lambda stored: stored["jwt"].update(target=target))


@pytest.fixture
def blind(tmp_path):
    """A deployment whose one service does not see the second key."""
    one = World(tmp_path, {KEY: "k" * 64}, uses=(KEY,), in_use=True)
    assert one.provision()
    return one


def test_a_compromised_key_dies_without_a_second_one(blind):
    assert opened(blind, emergency=True)["jwt_phase"] == "emergency"


def test_the_way_back_and_the_end_of_an_old_key_need_no_second_one(blind):
    entry = blind.entry
    begin(blind, "introduce", current=entry["current"], next=jwt_keys.make("HS256"))
    assert opened(blind, "abort")["phase"] == "back"
    begin(blind, "retire", current=entry["current"])
    assert opened(blind)["jwt_phase"] == "retire"


def test_nobody_signs_with_a_key_that_a_service_cannot_see(blind):
    with pytest.raises(SecretsError, match="app uses JWT_SIGNING_KEY and not JWT_SIGNING_KEY_SECONDARY"):
        opened(blind, phase="introduce")
    entry = blind.entry
    begin(blind, "promote", current=jwt_keys.make("HS256"), previous=entry["current"])
    with pytest.raises(SecretsError, match="app uses JWT_SIGNING_KEY and not JWT_SIGNING_KEY_SECONDARY"):
        opened(blind)


def test_what_is_for_signing_keys_is_refused_for_others_and_not_passed_over(world):
    for given, option in (({"emergency": True}, "emergency"), ({"phase": "retire"}, "jwt_phase")):
        with pytest.raises(SecretsError, match=f"^smtp: {option} is for JWT signing keys alone; leave it out$"):
            rotation_of(world.deployment, "smtp", {"jwt": given, "skip_services": []}).check_options()
        rotation_of(world.deployment, "jwt", {"jwt": given, "skip_services": []}).check_options()
    rotation_of(world.deployment, "smtp", {"jwt": {"phase": "", "emergency": False}}).check_options()


def test_of_several_keys_the_compromised_one_is_named():
    check_emergency(["jwt"])
    with pytest.raises(
        SecretsError, match="^emergency: one key at a time; name it: -e rotate=NAME; there are jwt, other$"
    ):
        check_emergency(["jwt", "other"])
    with pytest.raises(SecretsError, match="there are no signing keys among those named$"):
        check_emergency([])


def turn(world, purpose="rotate", **jwt):
    """One run, as the role has it; returns whether it came to its end."""
    world.deployment.check_mode, world.replaced[:] = False, []
    given = {"skip_services": [], "drift": "refuse", "accept_weak": False, "take_lock": None, "rollout": {}}
    given |= {"purpose": purpose, "jwt": jwt, "rolled": {}}
    seen = rotation_of(world.deployment, "jwt", given).open()
    one = rotation_of(world.deployment, "jwt", {**given, "opened": seen})
    if seen["phase"] == "back":
        one.back()
    if seen["phase"] in ("back", "ended"):
        return False
    try:
        for step in ("create", "set", "test", "publish", "roll_out", "drain", "finish"):
            getattr(one, step)()
    except SecretsError as error:
        one.remember(step, error)
        world.fails = ""
        assert one.back()["failed"]
        return False
    return True


def test_a_phase_replaces_who_uses_the_keys_and_what_it_aimed_at_is_in_use(world):
    old, given = world.env[KEY], {"accept_invalid_tokens": True}
    assert turn(world, phase="introduce") and world.replaced == ["app"]
    new = world.entry["next"]["password"]
    assert (world.env[KEY], world.env[SECOND]) == (old, new)
    assert turn(world, phase="promote", **given) and (world.env[KEY], world.env[SECOND]) == (new, old)
    # The schedule ends the old key; nothing is unfinished, and nobody has to do anything.
    [row] = [one for one in Status(world.deployment).show()["credentials"] if one["name"] == "jwt"]
    assert not is_unfinished(world.entry) and not row["needs"] and "next: retire from" in row["now"]
    assert turn(world, phase="retire", **given) and world.env[KEY] == new and world.env[SECOND] not in (old, new, "")
    assert turn(world, emergency=True) and world.env[KEY] not in (old, new) and "target" not in world.entry


def test_a_phase_that_fails_goes_back_and_says_so(world):
    before, env = world.entry, dict(world.env)
    world.fails = "app does not come up"
    assert not turn(world, phase="introduce")
    assert (world.entry, world.env) == (before, env) and world.replaced == ["app"]
    said = " ".join(" ".join(world.lines).split())
    assert "STOPPED jwt at" in said and "as before introduce; no token was rejected for it" in said


def test_an_emergency_that_fails_does_not_go_back_to_the_compromised_key(world):
    old, world.fails = world.env[KEY], "app does not come up"
    assert not turn(world, emergency=True)
    assert world.env[KEY] != old and not world.replaced and world.entry["target"]["phase"] == "emergency"
    assert turn(world) and world.replaced == ["app"] and world.entry["current"]["password"] == world.env[KEY] != old


def test_what_a_lost_target_means_for_the_services(world):
    for phase, text in (("promote", "both verify all live tokens"), ("emergency", "still accept the compromised key")):
        opened = {"jwt_phase": phase, "rotation": "r-1", "facts": {"strategy": "overlap"}}
        one = rotation_of(world.deployment, "jwt", {"opened": opened, "purpose": "rotate"})
        assert one.unreachable("roll_out", Unreachable("db1", "no route")) == "db1 unreachable: no route"
        assert text in " ".join(" ".join(world.lines).split())


def test_a_compromised_key_dies_although_an_earlier_run_has_left_its_lock(world):
    world.dies(phase="introduce")
    before = dict(world.env)
    assert turn(world, emergency=True)
    assert not {before[KEY], before[SECOND]} & {world.env[KEY], world.env[SECOND]} and "next" not in world.entry


def test_an_emergency_that_died_when_all_was_done_is_not_carried_out_twice(world):
    world.dies(emergency=True)
    key = world.env[KEY]
    assert not turn(world, emergency=True) and world.env[KEY] == key == world.entry["current"]["password"]
    assert world.ledger() == ("finish", "emergency", None) and world.outcome() == "ok"
    # Somebody who says it again means it.
    assert turn(world, emergency=True) and world.env[KEY] != key


def test_a_forced_phase_is_carried_out_although_the_one_before_has_left_its_lock(world):
    world.dies(phase="introduce")
    assert not turn(world, phase="introduce") and "next" in world.entry
    world.dies(phase="promote")
    assert turn(world, phase="retire", accept_invalid_tokens=True) and "previous" not in world.entry


def test_what_had_finished_is_not_said_to_have_gone_back(world):
    world.dies(phase="introduce")
    assert not turn(world, "abort") and "next" in world.entry
    assert world.ledger()[:2] == ("finish", "introduce") and world.outcome() == "ok"


def test_what_went_back_is_not_said_to_have_finished(world):
    world.fails = "app does not come up"
    world.dies(phase="introduce")
    assert "target" not in world.entry and not turn(world)
    assert world.ledger()[:2] == ("back", "introduce")


def test_an_emergency_turns_a_way_back_to_the_compromised_key(world):
    old, world.fails = world.env[KEY], "app does not come up"
    assert not turn(world, emergency=True)
    world.deployment.store.change(lambda stored: stored["jwt"]["target"].update(direction="back"))
    new = world.entry["target"]["current"]["password"]
    assert turn(world, emergency=True) and world.env[KEY] == new != old
    assert world.entry["current"]["password"] == new and "target" not in world.entry


def test_the_way_back_from_an_emergency_says_what_it_costs(world):
    world.fails = "app does not come up"
    assert not turn(world, emergency=True)
    world.deployment.store.change(lambda stored: stored["jwt"]["target"].update(direction="back"))
    turn(world)
    said = " ".join(" ".join(world.lines).split())
    assert "as before emergency; the new key's tokens are rejected" in said and "target" not in world.entry


def test_the_ledger_names_the_phase_and_the_key_that_it_is_about(world):
    first = world.entry["current"]["user"]
    for phase in ("introduce", "promote", "retire"):
        assert turn(world, phase=phase, accept_invalid_tokens=True)
        about = first if phase == "retire" else world.entry.get("next", world.entry["current"])["user"]
        assert {(row["phase"], row["user"]) for row in world.written} == {(phase, about)} and about
        assert world.ledger() == ("finish", phase, about)
        world.written.clear()


def test_dates_are_not_gone_by_where_clocks_differ(world):
    world.clock_off = 3600
    with pytest.raises(SecretsError, match="jwt: the clocks of db1 and of this machine are 1 h 0 min apart"):
        turn(world, phase="introduce")
    assert not turn(world)  # nothing is due
    assert turn(world, emergency=True)


def test_what_is_asked_of_signing_keys_contradicts_nothing(world):
    with pytest.raises(
        SecretsError, match="jwt: emergency replaces the key at once, without phases; leave jwt_phase out"
    ):
        rotation_of(
            world.deployment, "jwt", {"jwt": {"emergency": True, "phase": "retire"}, "skip_services": []}
        ).check_options()


def test_a_value_taken_over_from_env_ends_what_was_unfinished(world):
    world.fails = "app does not come up"
    assert not turn(world, emergency=True)
    assert world.deployment.memory()["records"]
    world.env[KEY] = "n" * 64
    assert world.adopt("accept", accept=["jwt"])
    assert not world.deployment.memory()["records"] and "STOPPED" not in world.status()["jwt"]
    assert world.ledger()[0] == "accept" and world.outcome() == "aborted"


def test_what_may_not_be_skipped_is_not_said_to_be(world):
    resolve = world.catalog_info

    def sick(**given):
        found = resolve(**given)
        text = "app is unhealthy now; fix it, or -e skip_service=app (it stays stale)"
        found["credentials"]["jwt"]["plan"]["refusals"] = [{"kind": "unhealthy", "text": text}]
        return found

    world.catalog_info = sick
    with pytest.raises(SecretsError, match="^app is unhealthy now; fix it$"):
        turn(world, phase="introduce")


def test_another_kind_of_algorithm_is_told_before_a_phase_is_due(world):
    world.uses = (KEY, JWKS)
    world.catalog["jwt"]["algorithm"] = "ES256"
    world.env[JWKS] = ""
    state = world.status()["jwt"]
    assert "cannot be rotated: secrets_catalog.jwt.algorithm: the key in use is one for HS256" in state


def test_what_is_not_for_all_that_are_named_is_refused_before_any_is_touched(world):
    def queued(*names, kind=None, **jwt):
        given = {"catalog": world.catalog, "credentials": names, "kind": kind, "jwt": jwt, "skip_services": skipped}
        return to_rotate(world.deployment, given)

    skipped = []

    with pytest.raises(SecretsError, match="^smtp: jwt_phase is for JWT signing keys alone; leave it out$"):
        queued("jwt", "smtp", phase="introduce")
    assert queued("jwt", "smtp", kind="jwt", phase="introduce") == ["jwt"]
    assert queued("jwt", "smtp") == ["jwt", "smtp"]
    skipped = ["app"]
    with pytest.raises(SecretsError, match="^jwt: skip_service is not for signing keys"):
        queued("smtp", "jwt")
    assert queued("smtp") == ["smtp"]
    with pytest.raises(SecretsError, match="^nothing of the kind jwt is among smtp; look at secrets_catalog$"):
        queued("smtp", kind="jwt")
    world.catalog["smtp"]["intervall"] = "1d"
    with pytest.raises(SecretsError, match=r"^secrets_catalog\.smtp\.intervall: unknown key"):
        queued("jwt", kind="jwt")


def test_a_placeholder_in_use_is_told_and_replaced_by_the_next_run(tmp_path):
    one = World(tmp_path, {KEY: "generate_strong_key_here"}, in_use=True)
    assert one.provision()
    assert "its key is still a placeholder; rotate-jwt.yml begins to replace it now" in one.lines[-2], one.lines
    assert "its key is still a placeholder; next: introduce" in one.status()["jwt"]
    assert turn(one) and "next" in one.entry


@pytest.mark.parametrize("seed", range(3))
def test_run_after_run_for_400_days_each_does_one_phase_at_most_and_no_key_ends_before_its_tokens(
    tmp_path, monkeypatch, seed
):
    """The runs themselves, a day apart, some missed for up to ten days; one in five that has something to do fails."""
    chance, clock = random.Random(seed), [datetime(2026, 1, 1, 3, tzinfo=UTC)]
    for module in (deployment, jwt_rotation, provisioning):
        monkeypatch.setattr(module, "now", lambda: clock[0])
    one = World(tmp_path, interval="90d", token_life="2d")
    one.provision()
    signed, missed, phases = {}, 0, []
    for _day in range(400):
        clock[0] += timedelta(days=1)
        before = (one.env[KEY], one.env[SECOND])
        signed[before[0]] = clock[0]
        missed = missed - 1 if missed else chance.randint(1, 10) * (chance.random() < 0.08)
        if missed:
            continue
        one.lines.clear()
        one.fails = "app does not come up" if chance.random() < 0.2 else ""
        done = turn(one)
        after = (one.env[KEY], one.env[SECOND])
        words = [row.split()[0] for row in one.lines if row.split()[0] in jwt_rotation.ENDED.values()]
        assert len(words) == done <= 1 and (done or after == before), one.lines
        phases += words
        # Nobody signs with what was not verified before, and who signed until now is verified still.
        assert after[0] in before and before[0] in after
        dropped = [signed[key] for key in before if key not in after and key in signed]
        assert all(clock[0] - last >= timedelta(days=2) for last in dropped)
    assert phases[:9] == ["INTRODUCED", "PROMOTED", "RETIRED"] * 3


@pytest.mark.parametrize("second", ["", "change_me", "generate_strong_key_here"])
def test_a_copied_example_is_filled_where_nothing_runs(tmp_path, second):
    one = World(tmp_path, {KEY: "generate_strong_key_here", SECOND: second})
    assert one.provision() and len(one.env[KEY]) == len(one.env[SECOND]) == 64
    assert not one.provision() and "DRIFT" not in one.status()["jwt"]


def test_a_second_key_that_is_the_first_one_is_no_drift(tmp_path):
    key = jwt_keys.make("HS256")["password"]
    one = World(tmp_path, {KEY: key, SECOND: key}, in_use=True)
    assert one.provision() and "DRIFT" not in one.status()["jwt"] and not one.provision()
    assert turn(one, phase="introduce") and one.env[KEY] == key != one.env[SECOND]


@pytest.mark.parametrize("empty", [JWKS, KID])
def test_an_empty_document_or_id_is_filled(tmp_path, empty):
    mine = pair()
    env = {KEY: mine["password"], JWKS: jwt_keys.jwks(mine), KID: mine["user"]}
    one = World(tmp_path, {**env, empty: ""}, uses=(KEY, JWKS, KID), in_use=True, algorithm="ES256")
    assert one.adopt() and "DRIFT" not in one.status()["jwt"]
    assert not one.provision() and one.env[KID] == mine["user"] and json.loads(one.env[JWKS])["keys"]


def test_an_id_that_the_document_does_not_have_is_refused(tmp_path):
    mine = pair()
    env = {KEY: mine["password"], JWKS: jwt_keys.jwks(mine), KID: "theirs"}
    one = World(tmp_path, env, uses=(KEY, JWKS, KID), in_use=True, algorithm="ES256")
    with pytest.raises(
        SecretsError, match=f"JWT_KEY_ID is theirs, and the JWKS document has that key as {mine['user']}"
    ):
        one.provision()


def test_what_another_run_has_ended_is_not_finished_again(world):
    world.deployment.check_mode = False
    given = {"skip_services": [], "purpose": "rotate", "jwt": {"phase": "introduce"}, "take_lock": None, "rolled": {}}
    seen = rotation_of(world.deployment, "jwt", {**given, "accept_weak": False}).open()
    with pytest.raises(SecretsError, match="jwt: its target value is gone: another run has ended r-"):
        rotation_of(world.deployment, "jwt", {**given, "opened": seen}).finish()
