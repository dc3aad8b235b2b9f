from __future__ import annotations

import random
from collections import Counter

import pytest

from imgstore.errors import BadReplyError, ConnectionLostError, StalledError, TimedOutError
from imgstore.retry import REFUND, Budget, Pause, TokenBucket

LOST = ConnectionLostError("lost")


def spread_of(pause: Pause | str) -> float:
    assert isinstance(pause, Pause)
    return pause.spread


def test_the_eighth_failure_without_progress_ends_a_call_of_eight_tries():
    budget = Budget(8, TokenBucket())
    answers = [budget.spend(LOST) for _ in range(8)]
    assert all(isinstance(answer, Pause) for answer in answers[:7])
    assert answers[7] == "8 tries in a row brought no progress"


def test_the_spread_doubles_from_a_fifth_of_a_second():
    budget = Budget(100, TokenBucket())
    spreads = [spread_of(budget.spend(LOST)) for _ in range(9)]
    assert spreads == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0])


def test_a_break_after_progress_is_not_counted_and_pauses_like_a_first_one():
    budget = Budget(1, TokenBucket())
    for _ in range(50):
        budget.progress(REFUND)
        assert spread_of(budget.spend(LOST)) == 0.2
    assert isinstance(budget.spend(LOST), str)


@pytest.mark.parametrize("count, refunded", [(65_535, False), (65_536, True), (65_537, True)])
def test_64_kib_refund_the_tries(count, refunded):
    budget = Budget(2, TokenBucket())
    budget.spend(LOST)
    budget.progress(count)
    assert isinstance(budget.spend(LOST), Pause) is refunded


def test_progress_adds_up_over_failed_tries():
    budget = Budget(3, TokenBucket())
    budget.progress(REFUND // 2)
    budget.spend(LOST)
    budget.progress(REFUND // 2)
    answers = [budget.spend(LOST) for _ in range(4)]
    assert [isinstance(answer, Pause) for answer in answers] == [True, True, True, False]


def test_progress_is_spent_by_the_failure_that_it_excuses():
    budget = Budget(2, TokenBucket())
    budget.progress(REFUND)
    budget.spend(LOST)
    budget.progress(REFUND - 1)
    assert isinstance(budget.spend(LOST), Pause)
    assert isinstance(budget.spend(LOST), str)


def test_success_refunds_the_tries():
    budget = Budget(2, TokenBucket())
    budget.spend(LOST)
    budget.succeed()
    assert spread_of(budget.spend(LOST)) == 0.2
    assert isinstance(budget.spend(LOST), str)


@pytest.mark.parametrize(
    "asked, waited", [(None, 0.0), (3, 3), (20, 20), (20.5, 20), (1e9, 20), (-5, 0), (0, 0)]
)
def test_retry_after_is_honoured_within_reason(asked, waited):
    pause = Budget(8, TokenBucket()).spend(ConnectionLostError("busy", retry_after=asked))
    assert pause == Pause(waited, 0.2)


def test_a_full_bucket_pays_for_a_hundred_retries():
    bucket = TokenBucket()
    assert bucket.tokens == 500
    assert [bucket.take(LOST) for _ in range(101)] == [5] * 100 + [None]
    assert bucket.tokens == 0


@pytest.mark.parametrize(
    "cause, cost", [(TimedOutError("t"), 10), (StalledError("s"), 5), (BadReplyError("b"), 5)]
)
def test_what_a_retry_costs(cause, cost):
    bucket = TokenBucket()
    assert bucket.take(cause) == cost
    assert bucket.tokens == 500 - cost


def test_too_few_tokens_are_not_taken():
    bucket = TokenBucket()
    for _ in range(99):
        bucket.take(LOST)
    assert bucket.take(TimedOutError("t")) is None
    assert bucket.tokens == 5
    assert bucket.take(LOST) == 5


def test_an_empty_bucket_ends_a_call_and_says_why():
    bucket = TokenBucket()
    for _ in range(100):
        bucket.take(LOST)
    assert Budget(8, bucket).spend(LOST) == "too many calls to this endpoint are failing"


def test_the_last_try_takes_no_token():
    bucket = TokenBucket()
    Budget(1, bucket).spend(LOST)
    assert bucket.tokens == 500


def test_progress_gives_the_tokens_back_once_with_one_on_top():
    bucket = TokenBucket()
    for _ in range(10):
        bucket.take(LOST)
    budget = Budget(8, bucket)
    budget.spend(LOST)
    budget.spend(LOST)
    assert bucket.tokens == 440
    budget.progress(REFUND - 1)
    assert bucket.tokens == 440
    budget.progress(1)
    assert bucket.tokens == 451
    budget.progress(REFUND)
    budget.succeed()
    assert bucket.tokens == 451


def test_calls_of_many_threads_take_turns_at_the_bucket():
    turns = []

    class Turns:
        def __enter__(self):
            turns.append(bucket.tokens)

        def __exit__(self, *_):
            turns.append(bucket.tokens)

    bucket = TokenBucket()
    bucket._lock = Turns()
    bucket.take(LOST)
    bucket.give_back(0)
    assert turns == [500, 495, 495, 496]


def test_a_bucket_never_holds_more_than_it_began_with():
    bucket = TokenBucket()
    bucket.give_back(50)
    assert bucket.tokens == 500


def test_a_lasting_outage_costs_at_most_a_hundred_retries_in_all():
    bucket = TokenBucket()
    retries = 0
    for _ in range(1000):
        budget = Budget(8, bucket)
        while isinstance(budget.spend(LOST), Pause):
            retries += 1
    assert retries == 100


def test_an_endpoint_that_is_well_again_earns_retries_by_calls_that_need_none():
    bucket = TokenBucket()
    while bucket.take(LOST) is not None:
        pass
    for _ in range(5):
        budget = Budget(8, bucket)
        budget.progress(REFUND)
        budget.progress(REFUND)
        budget.succeed()
    assert bucket.tokens == 5
    assert isinstance(Budget(8, bucket).spend(LOST), Pause)


def test_a_retry_after_the_first_success_is_given_back_too():
    bucket = TokenBucket()
    for _ in range(20):
        bucket.take(LOST)
    budget = Budget(8, bucket)
    budget.progress(REFUND)
    budget.spend(LOST)
    budget.progress(REFUND)
    assert bucket.tokens == 402


def test_p10_clients_that_failed_together_do_not_come_back_together(promise):
    """Full jitter: of 10,000 clients, in any tenth of a second at most twice as many as on the average."""
    rng = random.Random(10)
    budgets = [Budget(8, TokenBucket()) for _ in range(10_000)]
    for _ in range(5):
        pauses = [budget.spend(LOST) for budget in budgets]
        bins = Counter(int((pause.at_least + pause.spread * rng.random()) / 0.1) for pause in pauses)
        mean = len(budgets) / max(1, round(pauses[0].spread / 0.1))
        promise(
            "P10",
            "of the average, those that come back in one tenth of a second",
            max(bins.values()) / mean,
            2,
        )
