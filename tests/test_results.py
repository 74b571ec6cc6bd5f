"""Results are frozen, and reading them needs no torch."""

import dataclasses
import subprocess
import sys

import pytest

from hooks import results


@pytest.mark.parametrize(
    "kind",
    [value for value in vars(results).values() if dataclasses.is_dataclass(value)],
    ids=lambda kind: kind.__name__,
)
def test_frozen_and_every_field_documented(kind):
    assert kind.__dataclass_params__.frozen
    undocumented = [field.name for field in dataclasses.fields(kind) if field.name not in (kind.__doc__ or "")]
    shown_by_its_name = {"type", "parameters"}
    assert set(undocumented) <= shown_by_its_name


def test_quantile_levels_are_shares_in_ascending_order():
    assert list(results.QUANTILE_LEVELS) == sorted(results.QUANTILE_LEVELS)
    assert all(0 < level < 1 for level in results.QUANTILE_LEVELS)


def test_reading_results_does_not_import_torch():
    code = "import sys, hooks.results, hooks.codec, hooks.errors, hooks.maps; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
