"""Work is timed in turns, and told as ratios."""

from __future__ import annotations

import math

import pytest

from hookscope.hooks.bench import timing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (timing.milliseconds(4.21), "4.2 ms"),
        (timing.milliseconds(1234.5), "1,234 ms"),
        (timing.milliseconds(12_345), "12.3 s"),
        (timing.milliseconds(-203.6), "-204 ms"),
        (timing.milliseconds(math.nan), "–"),
        (timing.times(1.049), "1.05×"),
        (timing.times(23.2), "23×"),
        (timing.times(math.nan), "–"),
    ],
)
def test_numbers_are_written_for_a_reader(text: str, expected: str) -> None:
    assert text == expected


def test_a_drift_cancels_in_the_median_of_ratios() -> None:
    per = [100.0, 200.0, 400.0]
    assert timing.median_ratio([110.0, 220.0, 440.0], per) == pytest.approx(1.1)
    assert math.isnan(timing.median([]))
    taken = timing.Times({"a": [110.0, 220.0, 440.0], "b": per}, {"a": [1.0, 2.0, 3.0], "b": [1.0, 1.0, 1.0]})
    assert taken.ratio("a", "b") == "1.10× (2.00×)"


def test_each_piece_of_work_is_done_once_per_round_in_changing_order() -> None:
    done: list[str] = []
    works = {name: (lambda name=name: done.append(name)) for name in "abc"}
    taken = timing.in_turns(works, 2)
    assert "".join(done) == "abcbcacab"  # the first round is to warm up
    assert list(taken.wall) == ["a", "b", "c"] and {len(each) for each in taken.wall.values()} == {2}


def test_a_table_has_its_numbers_to_the_right() -> None:
    assert timing.table(["", "n"], [["a", "1"]]) == "|  | n |\n| --- | ---: |\n| a | 1 |"
