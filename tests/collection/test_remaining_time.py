"""How long a collection still takes: replayed with a clock of its own."""

from collections.abc import Callable, Iterator

import pytest

from ptqdb.collection.remaining_time import RemainingTime

# The embedded AlexNet and Inception_BN in 19 formats on 400 images: seconds of one core, recorded
# 2026-11-27. A cell of the second takes six times as long as one of the first.
ALEXNET_S = (
    0.7,
    0.7,
    0.67,
    0.64,
    0.63,
    0.78,
    0.92,
    0.88,
    0.89,
    0.65,
    0.7,
    0.79,
    0.73,
    1.05,
    0.98,
    0.68,
    0.71,
    0.78,
    1.07,
)
INCEPTION_S = (
    4.26,
    3.81,
    4.01,
    3.72,
    3.64,
    4.58,
    3.78,
    3.85,
    4.24,
    3.98,
    4.18,
    4.78,
    5.2,
    4.98,
    5.09,
    5.49,
    5.32,
    5.0,
    6.03,
)
ALEXNET_WORK, INCEPTION_WORK = 9_871_001_600, 72_805_580_800
EVENTS = [
    (1.67, "AlexNet", "prepared"),
    *((seconds, "AlexNet", "filled") for seconds in ALEXNET_S),
    (0.51, "Inception_BN", "preparing"),
    (19.35, "Inception_BN", "prepared"),
    *((seconds, "Inception_BN", "filled") for seconds in INCEPTION_S),
]
WHOLE_S = sum(seconds for seconds, _, _ in EVENTS)
CELL_COUNT = len(ALEXNET_S)


class Clock:
    """Says the time that it was told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def replay(remaining: RemainingTime, clock: Clock, step_s: float) -> Iterator[tuple[float, float]]:
    """What has passed and what is said to be left, at even steps while the events come."""
    remaining.weighed("AlexNet", CELL_COUNT, ALEXNET_WORK)
    remaining.weighed("Inception_BN", CELL_COUNT, INCEPTION_WORK)
    remaining.preparing("AlexNet")
    begun, event_at = clock.now, clock.now
    for seconds, network, event in EVENTS:
        event_at += seconds
        while clock.now + step_s < event_at:
            clock.now += step_s
            left = remaining.seconds()
            if left is not None:
                yield clock.now - begun, left
        clock.now = event_at
        if event == "prepared":
            remaining.prepared(network, CELL_COUNT)
        else:
            getattr(remaining, event)(network)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_unequal_networks_are_foreseen(clock: Clock) -> None:
    remaining = RemainingTime(clock)
    said = list(replay(remaining, clock, 0.25))
    assert remaining.seconds() == 0
    assert said[0][0] < 0.03 * WHOLE_S
    for share in (0.1, 0.5):
        passed, left = next(pair for pair in said if pair[0] >= share * WHOLE_S)
        truth = WHOLE_S - passed
        assert truth / 1.5 < left < truth * 1.5, share
    # And all along, but for the last seconds.
    ratios = [left / (WHOLE_S - passed) for passed, left in said if WHOLE_S - passed > 5]
    assert 1 / 1.5 < min(ratios) < max(ratios) < 1.5
    # By cells alone it would have been wrong by three times and more.
    passed = 1.67 + sum(ALEXNET_S[:4])
    by_cells = passed / 4 * (2 * CELL_COUNT - 4)
    assert WHOLE_S - passed > 3 * by_cells


def test_it_falls_while_nothing_happens(clock: Clock) -> None:
    remaining = RemainingTime(clock)
    said = list(replay(remaining, clock, 0.25))
    before_first = [left for passed, left in said if 20.3 < passed < 36]
    assert before_first == sorted(before_first, reverse=True)
    assert before_first[0] - before_first[-1] > 10


def started(clock: Clock, weigh: Callable[[RemainingTime], None]) -> RemainingTime:
    """One of two networks has four cells, of which two are filled in two seconds each."""
    remaining = RemainingTime(clock)
    remaining.weighed("one", 4, 1e9)
    weigh(remaining)
    remaining.preparing("one")
    clock.now += 3
    remaining.prepared("one", 4)
    assert remaining.seconds() is None
    for _ in range(2):
        clock.now += 2
        remaining.filled("one")
    return remaining


def test_work_that_is_unknown_is_that_of_the_others(clock: Clock) -> None:
    remaining = started(clock, lambda each: each.weighed("other", 5, None))
    assert remaining.seconds() == pytest.approx(2 * 2 + 5 * 2 + 3)
    alone = RemainingTime(clock)
    alone.weighed("one", 2, None)
    alone.preparing("one")
    alone.prepared("one", 2)
    clock.now += 7
    alone.filled("one")
    assert alone.seconds() == pytest.approx(7)


def test_layers_that_are_counted_later_and_networks_that_fail(clock: Clock) -> None:
    remaining = started(clock, lambda each: each.weighed("other", 10, 2e9))
    assert remaining.seconds() == pytest.approx(2 * 2 + 10 * 4 + 6)
    assert (remaining.done_count, remaining.cell_count) == (2, 14)
    # The first fails in its third cell; of the other there are fewer layers than expected.
    remaining.preparing("other")
    clock.now += 6
    remaining.prepared("other", 7)
    assert remaining.seconds() == pytest.approx(7 * 4)
    assert (remaining.done_count, remaining.cell_count) == (2, 9)


def test_a_network_without_cells_costs_nothing(clock: Clock) -> None:
    remaining = started(clock, lambda each: None)
    remaining.preparing("only channels")
    clock.now += 100
    assert remaining.seconds() == 0
