"""Text that somebody else wrote, where it comes in."""

from __future__ import annotations

import doctest

import pytest

from hookscope.dashboard.asking import texts
from hookscope.dashboard.asking.texts import file_name, one_line, shorten, unshowable


def test_doctests() -> None:
    assert doctest.testmod(texts).failed == 0


@pytest.mark.parametrize("length", [1, 2, 60, 61, 500])
def test_nothing_is_longer_than_it_may_be(length: int) -> None:
    for text in ("w" * 100_000, "a b" * 40_000, "\u5199" * length, " \0" * 100_000):
        assert len(shorten(text, length)) <= length and len(one_line(text, length)) <= length
        assert len(file_name(text, length)) <= max(length, len("model"))


def test_a_label_is_one_visible_line() -> None:
    assert one_line("a\u2028b\x85c\x0cd\te\n\x1b[1m\u202e\ud800\0 ", 80) == "a b c d e [1m"
    assert one_line("", 80) == one_line("\0\u200b", 80) == ""


def test_layers_that_differ_at_the_end_are_files_of_other_names() -> None:
    names = {file_name("encoder.layers." * 40 + last) for last in ("conv1", "conv2", "conv1:1")}
    assert len(names) == 3


@pytest.mark.parametrize("text", ["", "tab\t", "\x0c\x85\u2028\u2029 \xa0", "\u202e\U0001f408\uffff", "<b>&'"])
def test_what_can_be_shown(text: str) -> None:
    assert unshowable(text) == ""
