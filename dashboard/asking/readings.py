"""Which output is a model's answer, and how that is read, as an address writes it."""

from __future__ import annotations

from hookscope.hooks.methods import READINGS
from hookscope.hooks.results.outputs import AS_FOUND, Reading

LONGEST = 200  # characters of an output's path


def read_reading(text: object) -> Reading:
    """The reading that a text means; as the model's is found to be, if it means none.

    >>> read_reading("sigmoid:heads/age"), read_reading(":1"), read_reading("softmax")
    (Reading(output='heads/age', reads='sigmoid'), Reading(output='1', reads=''), Reading(output='', reads='softmax'))
    """
    reads, _, output = str(text).partition(":") if isinstance(text, str) else ("", "", "")
    if reads not in ("", *READINGS) or len(output) > LONGEST:
        return AS_FOUND
    return Reading(output.encode("utf-8", "ignore").decode(), reads)


def write_reading(reading: Reading) -> str:
    """The text that `read_reading` reads; "" for the model's own.

    >>> write_reading(Reading("1", "sigmoid")), write_reading(Reading())
    ('sigmoid:1', '')
    """
    return f"{reading.reads}:{reading.output}" if reading.output else reading.reads
