"""One way to write a number."""

import doctest
import math

import pytest

from hookscope.dashboard.drawing import numbers
from hookscope.dashboard.drawing.numbers import format_count, format_number, format_share


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(numbers).failed == 0


@pytest.mark.parametrize("value", [0, 1, -1, 0.1, 12345, 999999, -0.000123, 1e-300, 3.4e38, 65504, 1e6, 0.99995])
def test_what_is_written_can_be_read_back(value):
    assert float(format_number(value)) == pytest.approx(value, rel=5e-4)


def test_significant_digits():
    assert format_number(0.123456) == "0.1235"
    assert format_number(123.456) == "123.5"
    assert format_number(1234.56) == "1235"
    assert format_number(999999.7) == "1e+06"
    assert format_number(-0.0) == "0"
    assert format_number(None) == "NaN"


def test_shares_and_counts():
    assert format_share(0.5) == "50.0 %"
    assert format_share(math.nan) == "NaN"
    assert format_count(1204224) == "1,204,224"
