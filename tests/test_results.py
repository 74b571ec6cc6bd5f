"""Results are frozen, and reading them needs no torch."""

import dataclasses
import subprocess
import sys

import pytest
from checkout import ENVIRON

from hookscope.hooks.results import looks


@pytest.mark.parametrize(
    "kind",
    [value for value in vars(looks).values() if dataclasses.is_dataclass(value)],
    ids=lambda kind: kind.__name__,
)
def test_frozen_and_every_field_documented(kind):
    assert kind.__dataclass_params__.frozen
    undocumented = [field.name for field in dataclasses.fields(kind) if field.name not in (kind.__doc__ or "")]
    shown_by_its_name = {"type", "parameters"}
    assert set(undocumented) <= shown_by_its_name


def test_quantile_levels_are_shares_in_ascending_order():
    assert list(looks.QUANTILE_LEVELS) == sorted(looks.QUANTILE_LEVELS)
    assert all(0 < level < 1 for level in looks.QUANTILE_LEVELS)


def test_reading_results_does_not_import_torch():
    names = (
        "hookscope",
        *(f"hookscope.hooks.{name}" for name in ("errors", "results.looks", "results.codec", "results.maps")),
    )
    code = f"import sys, {', '.join(names)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRON)
