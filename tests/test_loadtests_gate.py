"""The client's limit on queries outstanding: first come, first served."""

import gevent
import pytest
from gevent.event import Event

from loadtests import gate as gate_module
from loadtests.gate import Gate


def test_who_waits_longest_goes_before_who_comes_as_a_place_gets_free():
    gate, order = Gate(1), []

    def query(name: str) -> None:
        gate.enter()
        order.append(name)

    assert gate.enter() is False
    gevent.spawn(query, "waiting")
    gevent.sleep(0)
    gate.leave()
    query_late = gevent.spawn(query, "late")  # begins before the one that waits has been woken
    gevent.sleep(0)
    gate.leave()
    query_late.join(1)
    assert ["waiting", "late"] == order


def test_a_place_is_free_again_after_everyone_has_left():
    gate = Gate(2)
    assert [False, False] == [gate.enter(), gate.enter()]
    gate.leave()
    gate.leave()
    assert [False, False] == [gate.enter(), gate.enter()]


@pytest.mark.parametrize("promised", [False, True])
def test_who_gives_up_waiting_takes_no_place(promised: bool):
    gate, came = Gate(1), []
    gate.enter()
    first = gevent.spawn(gate.enter)
    second = gevent.spawn(lambda: came.append(gate.enter()))
    gevent.sleep(0)
    if promised:
        gate.leave()  # the place is the first one's, who has not been woken
    first.kill()
    if not promised or first.value is True:  # woken before it was told to give up: it leaves as others do
        gate.leave()
    second.join(1)
    assert [True] == came


def test_who_gives_up_is_found_without_asking_the_others(monkeypatch: pytest.MonkeyPatch):
    """Thousands may give up at once: each would be compared with all that came before it."""
    compared = []

    class Turn(Event):
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return self is other

    monkeypatch.setattr(gate_module, "Event", Turn)
    gate, came = Gate(1), []
    gate.enter()
    waiting = [gevent.spawn(gate.enter) for _ in range(50)]
    gevent.spawn(lambda: came.append(gate.enter()))
    gevent.sleep(0)
    for greenlet in reversed(waiting):
        greenlet.kill()
    assert compared == []
    gate.leave()
    gevent.sleep(0)
    assert [True] == came, "the place is for the one that is left"
