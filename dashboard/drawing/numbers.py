"""Numbers as text: one way to write a value on every picture, table and tooltip."""

from __future__ import annotations

import math


def format_number(value: float | int | None) -> str:
    """Write a number with four significant digits.

    Exponents appear below 0.0001 and from 1,000,000 on; the minus sign is ASCII, so that the text can be read back.

    >>> [format_number(x) for x in (0, 0.5652, -30.8113, 12345.6, 1.234e-7, 3.4e38, float("nan"), float("-inf"))]
    ['0', '0.5652', '-30.81', '12346', '1.234e-07', '3.4e+38', 'NaN', '-Inf']
    """
    if value is None or math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if value == 0:
        return "0"
    if 1000 <= abs(value) < 999999.5:
        return f"{value:.0f}"
    return f"{value:.4g}"


def format_count(value: int | float) -> str:
    """Write a whole number with a comma between thousands: 1,204,224."""
    return f"{int(value):,}"


def format_share(value: float) -> str:
    """Write a share of 0..1 as a percentage; what is nearly all or nearly none is not rounded to all or none.

    A ratio may be beyond 1:

    >>> [format_share(x) for x in (0, 0.00001, 0.753, 0.99999, 1, 1.25, 3e15)]
    ['0 %', '<0.1 %', '75.3 %', '>99.9 %', '100 %', '125 %', '3e+15 times']
    """
    if math.isnan(value):
        return "NaN"
    if value in (0, 1):
        return f"{value * 100:.0f} %"
    if value < 0.001:
        return "<0.1 %"
    if value > 1:
        return f"{value * 100:.0f} %" if value < 10 else f"{format_number(value)} times"
    if value > 0.999:
        return ">99.9 %"
    return f"{value * 100:.1f} %"


def short_count(number: int) -> str:
    """A count in three digits: 4.65 M, 25.6 M, 950."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)
