"""The rules of docs/clients.md, one by one, without a network and without waiting."""

from __future__ import annotations

import pytest

from keyreeve import errors
from keyreeve.endpoints import Endpoints
from keyreeve.errors import KeyreeveError
from keyreeve.events import Event, Events
from keyreeve.tries import Rules, Tries


class World:
    """A clock that stands, jitter that is as long as it may be, and what was told."""

    def __init__(self, *addresses: str) -> None:
        self.now = 100.0
        self.told: list[Event] = []
        events = Events(self.told.append)
        self.endpoints = Endpoints(addresses or ("a:1",), events, clock=lambda: self.now, jitter=lambda _, most: most)
        self.rules = Rules(self.endpoints, events, clock=lambda: self.now, jitter=lambda _, most: most)

    def call(self, *, repeatable: bool = True, deadline: float = 10.0) -> Tries:
        return Tries(self.rules, "Encrypt", repeatable=repeatable, deadline=deadline, request_id="r-1")

    def names(self) -> list[str]:
        return [event.name for event in self.told]

    def waits(self, tries: Tries, error: KeyreeveError) -> list[float]:
        """Fails again and again; the clock stands."""
        waits: list[float] = []
        while True:
            tries.begin()
            wait = tries.failed(error)
            if wait is None:
                return waits
            waits.append(wait)


def overloaded(after: float | None = 0.07) -> KeyreeveError:
    return errors.Overloaded("too many requests", retry_after=after)


def token_unavailable() -> KeyreeveError:
    return errors.TokenUnavailable("the token is unavailable", retry_after=0.5)


def test_rule_3_waits_double_up_to_two_seconds_on_top_of_what_the_service_asks() -> None:
    assert World().waits(World().call(), token_unavailable()) == pytest.approx([0.55, 0.6, 0.7, 0.9])
    assert World().waits(World().call(), overloaded()) == pytest.approx([0.12, 0.17, 0.27, 0.47])


def test_rule_3_jitter_is_full() -> None:
    world = World()
    asked: list[tuple[float, float]] = []
    world.rules.jitter = lambda low, high: asked.append((low, high)) or 0.0  # type: ignore[func-returns-value]
    assert world.waits(world.call(), errors.Unreachable("no")) == [0.0] * 4
    assert asked == [(0, 0.05), (0, 0.1), (0, 0.2), (0, 0.4)]


def test_rule_2_at_most_four_retries_and_the_error_counts_its_tries() -> None:
    world = World()
    error = token_unavailable()
    assert len(world.waits(world.call(), error)) == 4
    assert (error.tries, error.request_id) == (5, "r-1")
    assert world.names().count("retry") == 4


@pytest.mark.parametrize(
    "error",
    [
        errors.DecryptFailed("no"),
        errors.PermissionDenied("no"),
        errors.DeadlineExceeded("no"),
        errors.InternalError("no"),
        errors.Conflict("no"),
        errors.MessageTooLarge("no RetryInfo, though RESOURCE_EXHAUSTED"),
        errors.ChecksumMismatch("no"),
        errors.TransportError("no"),
        errors.Unauthenticated("no"),
    ],
    ids=lambda error: error.reason,
)
def test_rule_2_nothing_else_is_tried_again(error: KeyreeveError) -> None:
    assert World().waits(World().call(), error) == []


def unreachable() -> KeyreeveError:
    return errors.Unreachable("nobody is there")


def answering(error: KeyreeveError | None = None) -> World:
    """A world in which the service has answered once: well, or with an error of its own."""
    world = World()
    if error is not None:
        error.of_service = True
    tries = world.call()
    tries.begin()
    tries.failed(error) if error else tries.succeeded()
    world.told.clear()
    return world


def failing(world: World, tries: Tries, error: KeyreeveError) -> list[float]:
    """Fails until there is no further try; each wait passes."""
    waits: list[float] = []
    while True:
        tries.begin()
        wait = tries.failed(error)
        if wait is None:
            return waits
        waits.append(wait)
        world.now += wait


def test_rule_2_an_outage_is_tried_until_the_deadline_and_costs_no_budget() -> None:
    world = answering()
    error = unreachable()
    waits = failing(world, world.call(deadline=30), error)
    assert waits[:7] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2])
    assert set(waits[6:]) == {2.0}
    assert 28 < sum(waits) < 30, "a wait that would not end before the deadline is not begun"
    assert (error.tries, error.request_id) == (len(waits) + 1, "r-1")
    assert world.rules.budget.tokens == 10
    assert "budget_exhausted" not in world.names()


def test_rule_2_whatever_the_service_says_is_its_first_answer() -> None:
    for error in (errors.PermissionDenied("no"), errors.Draining("no"), errors.DeadlineExceeded("late")):
        world = answering(error)
        assert len(failing(world, world.call(), unreachable())) > 4, error.reason


def test_rule_2_what_never_answered_is_tried_four_times_and_costs_budget() -> None:
    for error in (errors.TransportError("no"), errors.DeadlineExceeded("late"), errors.Unreachable("no")):
        world = World()
        tries = world.call()
        tries.begin()
        tries.failed(error)
        tokens = world.rules.budget.tokens
        tries = world.call()
        assert len(failing(world, tries, unreachable())) == 4, error.reason
        assert world.rules.budget.tokens <= tokens - 3.9


def test_rule_2_an_answer_of_one_endpoint_counts_for_all() -> None:
    world = World("a:1", "b:1")
    tries = world.call()
    tries.begin()
    tries.succeeded()
    assert len(failing(world, world.call(), unreachable())) > 4


def test_rule_2_within_an_outage_other_failures_count_as_ever_and_the_wait_counts_all_tries() -> None:
    world = answering()
    tries = world.call(deadline=60)
    waits: list[float | None] = []
    for error in [unreachable()] * 3 + [token_unavailable()] * 4 + [unreachable()] * 2 + [token_unavailable()]:
        tries.begin()
        waits.append(tries.failed(error))
    assert waits[:3] == pytest.approx([0.05, 0.1, 0.2])
    assert waits[3:7] == pytest.approx([0.4 + 0.5, 0.8 + 0.5, 1.6 + 0.5, 2 + 0.5])
    assert waits[7:] == [2, 2, None], "the fifth other failure is the last"
    assert world.rules.budget.tokens == pytest.approx(6)


def test_rule_2_an_outage_is_waited_for_without_budget() -> None:
    world = answering()
    while world.rules.budget.retry():
        pass
    assert len(failing(world, world.call(), unreachable())) > 4
    assert failing(world, world.call(), token_unavailable()) == []


def test_a_mutation_without_request_id_is_never_tried_again() -> None:
    for world in (World(), answering()):
        assert failing(world, world.call(repeatable=False), unreachable()) == []


def test_rule_3_a_call_goes_elsewhere_than_where_it_has_just_failed() -> None:
    world = World("a:1", "b:1")
    tries = world.call()
    tries.begin()
    assert tries.failed(unreachable()) == 0
    world.now += 0.11
    assert world.endpoints.health()[0].circuit == "half_open"
    assert tries.begin() == "b:1", "another call may try a:1"
    assert world.call().begin() == "a:1"


def test_rule_6_in_an_outage_of_all_a_call_tries_one_after_the_other() -> None:
    world = World("a:1", "b:1")
    tries = world.call()
    seen: list[str] = []
    for _ in range(4):
        seen.append(tries.begin())
        tries.failed(unreachable())
        world.now += 5
    assert seen == ["a:1", "b:1", "a:1", "b:1"]


def test_rule_1_a_wait_that_would_not_end_before_the_deadline_is_not_begun() -> None:
    world = World()
    tries = world.call(deadline=1.0)
    tries.begin()
    assert tries.failed(token_unavailable()) == pytest.approx(0.55)
    world.now += 0.55
    tries.begin()
    assert tries.remaining == pytest.approx(0.45)
    assert tries.failed(token_unavailable()) is None
    hour = errors.KeyCeiling("used up", retry_after=3600.0)
    assert World().waits(World().call(), hour) == []
    assert hour.retry_after == 3600


def test_rule_4_the_budget_lets_ten_retries_through_and_then_one_for_ten_calls() -> None:
    world = World()
    let_through = [len(world.waits(world.call(), overloaded())) for _ in range(20)]
    assert let_through[:3] == [4, 4, 2]
    assert sum(let_through) == 11
    assert "budget_exhausted" in world.names()
    for _ in range(20):
        world.call()
    assert len(world.waits(world.call(), overloaded())) == 3, "0.9 were left, and 21 calls put a tenth in"


def test_rule_3_another_endpoint_is_tried_at_once() -> None:
    world = World("a:1", "b:1")
    tries = world.call()
    assert tries.begin() == "a:1"
    assert tries.failed(token_unavailable()) == 0
    assert tries.begin() == "b:1"
    tries.succeeded()
    assert world.call().begin() == "b:1", "the one that worked last"


def test_rule_3_overload_is_not_carried_to_another_endpoint_without_its_delay() -> None:
    world = World("a:1", "b:1")
    tries = world.call()
    tries.begin()
    assert tries.failed(overloaded()) == pytest.approx(0.12)


def test_rule_7_a_lost_connection_opens_the_circuit_at_once_and_one_call_tries_it_again() -> None:
    world = World("a:1", "b:1")
    tries = world.call()
    tries.begin()
    tries.failed(errors.Unreachable("no"))
    assert [(e.circuit, e.last_reason) for e in world.endpoints.health()] == [("open", "UNREACHABLE"), ("closed", "")]
    world.now += 0.11
    assert world.endpoints.health()[0].circuit == "half_open"
    trial, other = world.call(), world.call()
    assert (trial.begin(), other.begin()) == ("a:1", "b:1")
    other.succeeded()
    trial.failed(errors.Unreachable("no"))
    assert world.endpoints.health()[0].circuit == "open"
    world.now += 0.15
    assert world.endpoints.health()[0].circuit == "open", "the pause doubles"
    world.now += 0.06
    again = world.call()
    assert again.begin() == "a:1"
    again.succeeded()
    assert world.endpoints.health()[0].circuit == "closed"
    assert [n for n in world.names() if n.startswith("circuit")] == ["circuit_opened", "circuit_closed"]


def test_rule_7_a_call_that_may_not_be_tried_again_tries_nothing_while_it_has_a_choice() -> None:
    world = World("a:1", "b:1")
    tries = world.call()
    tries.begin()
    tries.failed(errors.Unreachable("no"))
    world.now += 0.11
    assert world.call(repeatable=False).begin() == "b:1"
    assert world.call().begin() == "a:1"


def test_rule_7_three_failures_in_a_row_open_it_and_a_refusal_in_between_does_not_count() -> None:
    world = World()
    for error in (
        errors.DeadlineExceeded("late"),
        errors.DeadlineExceeded("late"),
        errors.PermissionDenied("no"),
        errors.DeadlineExceeded("late"),
        errors.DeadlineExceeded("late"),
    ):
        tries = world.call()
        tries.begin()
        tries.failed(error)
    assert world.endpoints.health()[0].circuit == "closed"
    tries = world.call()
    tries.begin()
    tries.failed(errors.DeadlineExceeded("late"))
    assert world.endpoints.health()[0].circuit == "open"


def test_rule_6_an_open_circuit_never_refuses_a_call() -> None:
    world = World("a:1", "b:1")
    world.waits(world.call(), errors.Unreachable("no"))
    assert {e.circuit for e in world.endpoints.health()} == {"open"}
    assert world.call().begin() in ("a:1", "b:1")


def test_an_abandoned_trial_leaves_the_next_call_to_try() -> None:
    world = World("a:1", "b:1")
    tries = world.call()
    tries.begin()
    tries.failed(errors.Unreachable("no"))
    world.now += 0.2
    trial = world.call()
    assert trial.begin() == "a:1"
    trial.given_up(KeyboardInterrupt())
    assert world.call().begin() == "a:1"


def test_rule_8_a_refused_certificate_is_tried_again_once_if_the_files_changed() -> None:
    tries = World().call()
    tries.begin()
    assert tries.failed(errors.Unauthenticated("revoked"), lambda: True) == 0
    tries.begin()
    assert tries.failed(errors.Unauthenticated("revoked"), lambda: True) is None


def test_a_callback_that_fails_does_not_fail_the_call(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Event) -> None:
        raise RuntimeError("in the callback")

    Events(broken).tell(Event(name="call"))
    assert "the on_event callback failed on call" in caplog.text


def test_rule_7_of_many_calls_that_are_lost_at_once_one_opens_the_circuit_and_the_others_change_nothing() -> None:
    world = World("a:1", "b:1")
    under_way = [world.call() for _ in range(64)]
    for tries in under_way:
        assert tries.begin() == "a:1"
    for tries in under_way:
        tries.failed(errors.Unreachable("no"))
    assert world.names().count("circuit_opened") == 1
    world.now += 0.11
    trial = world.call()
    assert trial.begin() == "a:1", "the pause is still the first"


def test_rule_7_what_began_before_a_circuit_opened_neither_closes_it_nor_ends_the_trial() -> None:
    world = World("a:1", "b:1")
    early, late, lost = world.call(), world.call(), world.call()
    for tries in (early, late, lost):
        tries.begin()
    lost.failed(errors.Draining("going"))
    early.succeeded()
    assert world.endpoints.health()[0].circuit == "open", "a node that drains answers what is under way"
    world.now += 0.11
    trial = world.call()
    assert trial.begin() == "a:1"
    late.succeeded()
    assert world.call().begin() == "b:1", "the trial is under way"


def test_rule_7_who_goes_there_for_want_of_something_better_does_not_prolong_the_pause() -> None:
    world = World("a:1")
    tries = world.call()
    tries.begin()
    tries.failed(errors.Unreachable("no"))
    world.now += 0.05
    for _ in range(10):
        other = world.call(repeatable=False)
        other.begin()
        other.failed(errors.Unreachable("no"))
    world.now += 0.06
    assert world.endpoints.health()[0].circuit == "half_open"


def test_rule_6_a_retry_goes_to_another_endpoint_first_also_if_none_is_closed() -> None:
    world = World("a:1", "b:1")
    world.endpoints.visit("b:1").ended(errors.Unreachable("no"))
    world.now += 0.05
    tries = world.call()
    assert tries.begin() == "a:1"
    for address in ("b:1", "a:1", "b:1"):
        tries.failed(errors.Unreachable("no"))
        assert tries.begin() == address
