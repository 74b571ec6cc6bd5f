"""Text that somebody else wrote, where it comes in."""

from __future__ import annotations

import doctest

import pytest

from hookscope.dashboard.asking import named_layers, texts
from hookscope.dashboard.asking.named_layers import split_at
from hookscope.dashboard.asking.texts import file_name, one_line, shorten, unshowable


def test_doctests() -> None:
    assert doctest.testmod(texts).failed == doctest.testmod(named_layers).failed == 0


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


@pytest.mark.parametrize(
    ("sentence", "layer", "before"),
    [
        ("9 of 12 channels after 1 fired in none of 18 pictures.", "1", "9 of 12 channels after "),
        ("They look like pixels of -1 to 1, and 1 is given 1.2 from", "1", "They look like pixels of -1 to 1, and "),
        ("Pixels of -1 to 1, values of 1 and 1.5, a deviation of 1.", "1", None),
        ("1 of 8 channels of 11 repeat another one", "1", None),
        ("Channel 4 of 4 reaches 4 times the magnitude", "4", "Channel 4 of "),
        ("0.1 of all, and 0.1 is given 3", "0.1", "0.1 of all, and "),
        ("The gradient of 3 underflows: 3 % of it", "3", "The gradient of "),
        ("bn10 is off, and bn1 is not", "bn1", "bn10 is off, and "),
        ("layer1.0 makes NaN, layer1 does not", "layer1", "layer1.0 makes NaN, "),
        ("conv (Conv2d) never ran", "conv", ""),
        ("Nothing is named.", "", None),
    ],
)
def test_a_layer_is_found_where_a_sentence_names_it(sentence: str, layer: str, before: str | None) -> None:
    """A name that is a number is no other number of the sentence, and no part of one."""
    found = split_at(sentence, layer)
    assert (None if found is None else found[0]) == before
    assert found is None or layer.join(found) == sentence
