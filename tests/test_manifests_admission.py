"""Who is let in and what is sent again: what the router's configuration says, and what its notes say is missing."""

from __future__ import annotations

import json
import re

import pytest
from manifest_plans import facts, notes, objects

from planner.manifests.compose import compose
from planner.manifests.haproxy import admission_notes, haproxy_config
from planner.manifests.kubernetes import kubernetes
from planner.manifests.router import routers
from planner.manifests.settings import Settings

NAME = Settings(name="fleet")
DENY = "http-request deny deny_status 503 if { nbsrv gt 0 } { be_conn_free eq 0 }"


def admitting(room: int, samples: int = 1, **more):
    stages = [{"name": "a", "samples": samples}, {"name": "b"}]
    return {"scenario__fleet__admission": {"max_requests_per_replica": room}, "scenario__query__stages": stages} | more


def lines(**changes) -> list[str]:
    return [line.strip() for line in objects(**changes)["ConfigMap/fleet-router"]["data"]["haproxy.cfg"].splitlines()]


ROOM = [
    (72, 1, 2, 36, "half of it for each of two routers, which know nothing of each other"),
    (73, 1, 2, 36, "rounded down: never more than was planned"),
    (72, 4, 2, 9, "a call of 4 samples is one request to HAProxy and 4 to the engine"),
    (7, 4, 1, 1, "one call fits a replica, so there is one router"),
    (1, 1, 1, 1, "maxconn 0 would be no limit at all"),
]


@pytest.mark.parametrize(("room", "samples", "count", "maxconn", "because"), ROOM)
def test_a_replica_never_gets_more_than_was_planned(room, samples, count, maxconn, because):
    changes = admitting(room, samples)
    assert count == routers(facts(**changes)) == objects(**changes)["Deployment/fleet-router"]["spec"]["replicas"]
    found = lines(**changes)
    assert [f"default-server maxconn {maxconn}"] == [line for line in found if "server maxconn" in line], because
    assert count * maxconn * samples <= room
    at = found.index(f"default-server maxconn {maxconn}")
    assert at < next(k for k, line in enumerate(found) if line.startswith("server-template")), "it is for later servers"


def test_who_finds_no_room_is_refused_and_told_so_as_vllm_would():
    found = lines(**admitting(72))
    assert DENY in found
    assert "timeout queue 1s" in found, "nobody waits in the simulation"
    (error,) = [line for line in found if line.startswith("http-error status 503")]
    body = json.loads(re.fullmatch(r"http-error status 503 content-type application/json string '(.*)'", error)[1])
    assert {"message", "type", "param", "code"} == set(body["error"])
    assert 503 == body["error"]["code"]


def test_without_admission_nobody_is_refused():
    found = lines()
    assert [] == [line for line in found if ("maxconn" in line and "default-server" in line) or "deny" in line]
    assert "timeout queue 30s" in found
    assert [] == admission_notes(facts(), 2)
    assert "admission" not in notes(objects()["Deployment/fleet-router"])


def test_one_box_has_one_router_which_lets_all_of_it_in():
    made = compose(facts("demo", **admitting(72)), NAME)
    text = made["configs"]["haproxy.cfg"]["content"]
    assert "default-server maxconn 72\n" in text
    assert DENY in text


def test_a_single_replica_with_a_limit_has_a_router_whatever_its_routing():
    alone = admitting(72, fleet__replicas=1, fleet__gpus=1, fleet__spare_replicas=0, fleet__routing="prefix_aware")
    made = objects("demo", **alone)
    assert "router" == made["Service/fleet"]["spec"]["selector"]["app.kubernetes.io/component"]
    assert "balance leastconn" in made["ConfigMap/fleet-router"]["data"]["haproxy.cfg"]
    assert "router" in compose(facts("demo", **alone), NAME)["services"]


def test_a_router_has_connections_for_those_whom_it_refuses():
    """21 replicas of 1,000: twice as many as it lets in."""
    assert "maxconn 42000\n" in haproxy_config(facts(**admitting(1000)), [], 2)


NOTES = [
    ("least_loaded", 2, ["at most 72 calls to a replica", "no replica serves", "the other has room"]),
    ("least_loaded", 1, ["at most 72 calls to a replica", "no replica serves"]),
    ("random", 1, ["at most 72 calls", "no replica serves", "under random HAProxy chooses before"]),
    ("power_of_two", 1, ["at most 72 calls", "no replica serves", "under power_of_two HAProxy chooses before"]),
    ("session_affinity", 1, ["at most 72 calls", "no replica serves", "under session_affinity HAProxy chooses before"]),
]


@pytest.mark.parametrize(("routing", "count", "words"), NOTES)
def test_what_haproxy_does_otherwise_than_the_simulation_is_said(routing, count, words):
    told = admission_notes(facts(**admitting(72, fleet__routing=routing)), count)
    assert len(words) == len(told)
    for part in words:
        assert 1 == sum(part in note for note in told), part
    assert "{" not in "".join(told), "no Python in what people read"


def test_the_notes_stand_with_the_objects_and_are_told():
    changed = facts(**admitting(72))
    told = admission_notes(changed, 2)
    assert set(told) <= set(kubernetes(changed, NAME).notes)
    assert "; ".join(told) == notes(objects(**admitting(72))["Deployment/fleet-router"])["admission"]


def test_what_a_lost_replica_had_not_begun_to_answer_goes_to_another():
    """Only what HAProxy holds whole before it sends it can be sent again."""
    found = lines()
    for line in ("retry-on conn-failure empty-response", "option http-buffer-request", "option redispatch 1"):
        assert line in found
    assert "tune.bufsize 65536" in found
    told = notes(objects()["Deployment/fleet-router"])["retry"]
    assert "below 64 KiB" in told
    assert "only its client can send it again" in told, "streams that have begun are nobody's to resend"


def test_without_retry_nothing_is_sent_twice():
    found = lines(scenario__fleet__retry=False)
    assert "retry-on conn-failure" in found
    assert [] == [line for line in found if line.startswith(("tune.bufsize", "option http-buffer-request"))]
    assert "never sent twice" in notes(objects(scenario__fleet__retry=False)["Deployment/fleet-router"])["retry"]
