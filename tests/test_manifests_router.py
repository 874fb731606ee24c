"""The router: it routes as was planned, waits as long as answers take, loses none where a pod goes."""

from __future__ import annotations

import re

import pytest
from manifest_plans import container, document, facts, notes, objects

from planner.errors import UnsupportedError
from planner.manifests.compose import compose
from planner.manifests.haproxy import BALANCE, balance, haproxy_config, timeout_s
from planner.manifests.kubernetes import kubernetes
from planner.manifests.settings import Settings
from planner.scenario.fleet import Fleet


def config(**changes) -> list[str]:
    return [line.strip() for line in objects(**changes)["ConfigMap/fleet-router"]["data"]["haproxy.cfg"].splitlines()]


ROUTING = [
    ("least_loaded", ["balance leastconn"], "fewest requests in hand, as the simulator routes"),
    ("round_robin", ["balance roundrobin"], "one after the other"),
    ("random", ["balance random(1)", "default-server weight 64"], "one draw: two would prefer the less loaded"),
    ("power_of_two", ["balance random(2)", "default-server weight 64"], "two draws, the less loaded of them"),
    (
        "session_affinity",
        ["balance hdr(x-session-id)", "hash-type consistent", "default-server hash-key addr weight 64"],
        "a lost replica moves its own sessions alone, and both routers send a session to the same one",
    ),
]


@pytest.mark.parametrize(("routing", "lines", "because"), ROUTING)
def test_the_router_routes_as_the_plan_was_simulated(routing, lines, because):
    found = config(fleet__routing=routing)
    at = found.index(lines[0])
    assert lines == found[at : at + len(lines)], because
    assert "backend replicas" == found[at - 1], because
    shown = notes(objects(fleet__routing=routing)["Deployment/fleet-router"])["routing"]
    assert f"{routing}: {', '.join(lines)}" == shown


def test_every_routing_that_a_scenario_may_name_has_its_balance_or_a_reason():
    named = _words(Fleet.model_json_schema()["properties"]["routing"])
    assert {"least_loaded", "round_robin", "random"} <= set(named)
    for routing in set(named) - {"prefix_aware"}:
        assert BALANCE[routing] == balance(routing)


REFUSED = [
    ("prefix_aware", "routerSpec.routingLogic: prefixaware", "vLLM production-stack can: its chart's own value"),
    ("prefix_aware", "--routing-logic prefixaware", "and its router's flag"),
    ("prefix_aware", "session_affinity", "the nearest that HAProxy can"),
    ("psychic", "one of least_loaded, power_of_two, random, round_robin, session_affinity", "nobody routes so"),
]


@pytest.mark.parametrize(("routing", "words", "because"), REFUSED)
def test_a_routing_that_haproxy_cannot_do_is_refused_with_the_way_out(routing, words, because):
    for render in (kubernetes, compose):
        with pytest.raises(UnsupportedError, match=re.escape(words)) as caught:
            render(facts("demo", fleet__routing=routing), Settings(name="fleet"))
        assert "fleet.routing" == caught.value.key, because


def test_where_there_is_nothing_to_route_between_no_routing_is_refused():
    made = objects("demo", fleet__routing="prefix_aware", fleet__replicas=1, fleet__gpus=1)
    assert "Deployment/fleet-router" not in made


def _words(schema: dict) -> list[str]:
    """Every word that a JSON Schema lists."""
    found: list[str] = []
    todo: list = [schema]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            found += one.get("enum", [])
            todo += one.values()
        elif isinstance(one, list):
            todo += one
    return found


def test_tokens_pass_the_router_one_by_one_and_silence_is_borne():
    lines = config()
    assert "option http-no-delay" in lines
    assert "timeout server 600s" in lines


TIMEOUTS = [
    ({}, 600, "never below ten minutes"),
    ({"at_peak__e2e_ms": {"p99": 200_000.0}}, 1000, "five times the p99 of E2E"),
    ({"scenario__traffic__timeout_s": 7200.5}, 7201, "as long as the clients themselves wait"),
]


@pytest.mark.parametrize(("changes", "seconds", "because"), TIMEOUTS)
def test_the_router_waits_longer_than_any_answer_takes(changes, seconds, because):
    assert seconds == timeout_s(facts(**changes)), because


def test_the_router_finds_each_replica_by_the_headless_service_and_has_room_for_an_update():
    (line,) = [line for line in config() if line.startswith("server-template")]
    assert 'replica- 22 "fleet-replicas.${POD_NAMESPACE}.svc.${CLUSTER_DOMAIN}:8000"' in line
    assert "None" == objects()["Service/fleet-replicas"]["spec"]["clusterIP"]


def test_users_call_the_router_and_a_single_replica_directly():
    component = "app.kubernetes.io/component"
    assert "router" == objects()["Service/fleet"]["spec"]["selector"][component]
    alone = objects("demo", fleet__replicas=1, fleet__gpus=1)
    assert "replicas" == alone["Service/fleet"]["spec"]["selector"][component]
    assert not [key for key in alone if "router" in key]


def test_the_router_s_tables_hold_four_times_the_planned_requests():
    peak = document()["at_peak"]["ledger"] | {"running_mean": 1000.0, "waiting_mean": 0.0}
    assert "maxconn 84000" in haproxy_config(facts(at_peak__ledger=peak), [], 2)
    assert "maxconn 4096" in haproxy_config(facts("demo"), [], 2)


def test_a_router_s_memory_is_for_as_many_requests_as_it_lets_in():
    """Two buffers of 64 KiB each and 32 KiB of sockets, 128 MiB of its own: 4096 are 640 + 128, 84,000 13,125 + 128."""
    peak = document()["at_peak"]["ledger"] | {"running_mean": 1000.0, "waiting_mean": 0.0}
    large, small = (objects(name, **more) for name, more in (("ai-search", {"at_peak__ledger": peak}), ("demo", {})))
    sizes = [container(made["Deployment/fleet-router"])["resources"] for made in (large, small)]
    assert [("3410Mi", "13253Mi"), ("288Mi", "768Mi")] == [
        (size["requests"]["memory"], size["limits"]["memory"]) for size in sizes
    ], "of 21,000 in hand at the planned peak 3282 + 128 are asked for"
    plain = container(objects("demo", scenario__fleet__retry=False)["Deployment/fleet-router"])["resources"]
    assert "512Mi" == plain["limits"]["memory"], "buffers of HAProxy's own 16 KiB: 256 + 128, below the least"


def seconds(line: str, **changes) -> int:
    """The seconds of one line of the configuration."""
    (found,) = [given for given in config(**changes) if given.startswith(f"{line} ")]
    return int(found.removeprefix(line).strip().removesuffix("s"))


def test_a_busy_replica_has_longer_to_say_that_it_is_well_than_there_is_between_two_checks():
    """Left out, HAProxy takes `inter` for both, and a replica that is slow three times counts as lost."""
    (check,) = [line for line in config() if line.startswith("default-server check inter ")]
    assert "default-server check inter 2s fall 3 rise 1" == check
    assert 5 == seconds("timeout check") > 2


def test_a_replica_keeps_an_idle_connection_longer_than_the_router_does():
    """vLLM's own 5 s would close one under a request that the router just sends, which is then lost: 502."""
    for server in (container(objects()["Deployment/fleet-replicas"])["env"],):
        (given,) = [one["value"] for one in server if one["name"] == "VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]
        assert int(given) > seconds("timeout http-keep-alive") == 75
    project = compose(facts("demo"), Settings(name="fleet"))
    assert given == project["services"]["vllm-0"]["environment"]["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]


def test_a_replica_that_leaves_the_dns_is_forgotten_before_it_is_told_to_end():
    """HAProxy holds an answer 5 s and a missing address 5 s more; the cluster's DNS holds its own for 5 s."""
    command = container(objects()["Deployment/fleet-replicas"])["lifecycle"]["preStop"]["exec"]["command"]
    drained_s = 1.5 * facts().p99_e2e_s
    dns_s = 5
    assert int(command[1]) - drained_s >= seconds("hold valid") + seconds("hold obsolete") + dns_s


def test_an_answer_of_the_dns_has_room_for_every_replica():
    """HAProxy takes 512 bytes by default, some 30 addresses at 16 bytes each; it allows up to 8192."""
    (line,) = [line for line in haproxy_config(facts(), [], 2).splitlines() if "payload" in line]
    key, size = line.split()
    assert ("accepted_payload_size", 8192) == (key, int(size))
    section = haproxy_config(facts(), [], 2).partition("resolvers cluster\n")[2].partition("\n\n")[0]
    assert line in section.splitlines(), "of the resolvers that the servers are found by"


def test_a_router_that_ends_is_given_the_time_that_answers_take():
    """Leaving the Service 5 s, then a soft stop that ends of itself before Kubernetes kills the pod."""
    for changes in ({}, {"at_peak__e2e_ms": {"p99": 200_000.0}}):
        stop_s = seconds("hard-stop-after", **changes)
        assert stop_s >= 1.5 * facts(**changes).p99_e2e_s, "no answer is cut off that a replica would have finished"
        made = objects(**changes)["Deployment/fleet-router"]
        (command,) = [container(made)["lifecycle"]["preStop"]["exec"]["command"]]
        assert ["sleep", "5"] == command
        grace_s = made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace_s >= 5 + stop_s + 10, "HAProxy ends before it is killed"
