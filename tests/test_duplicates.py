"""Channels that tell the same: found as numpy's correlations find them, and none by chance."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results import duplicates
from hookscope.hooks.results.duplicates import Duplicates, duplicates_of, find_duplicates
from hookscope.hooks.results.sweeps import LayerFeatures, Sweep


def found(values: np.ndarray) -> Duplicates:
    return duplicates_of(LayerFeatures("conv", 0, 128, np.arange(len(values)), values.astype(np.float32)))


def test_groups_are_what_hangs_together_by_numpys_correlations(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    base = draw.normal(size=(60, 7))
    copies = base[:, [0, 0, 0, 1, 2, 2, 6]] * draw.uniform(-3, 3, 7)
    noise = draw.normal(size=(60, 7)) * [1e-4, 1e-4, 0.5, 1e-4, 1e-4, 0.2, 1e-4]
    values = np.concatenate([base, copies + noise + draw.normal(size=7)], 1)[:, draw.permutation(14)]
    near = np.abs(np.corrcoef(values.T)) > 0.999
    groups = set()
    for channel in range(14):
        group, before = {channel}, set()
        while group != before:
            before, group = group, {int(other) for each in group for other in np.flatnonzero(near[each])}
        groups.add(tuple(sorted(group)))
    expected = {group for group in groups if len(group) > 1}
    assert len(expected) >= 3
    assert set(found(values).groups) == expected
    monkeypatch.setattr(duplicates, "BLOCK", 3)  # and not only within one block
    told = found(values)
    assert set(told.groups) == expected and [len(group) for group in told.groups] == sorted(map(len, expected))[::-1]
    assert told.share == pytest.approx(sum(map(len, expected)) / 14) and told.compared == told.channels == 14


def test_what_is_constant_or_dead_or_carried_by_one_picture_is_no_duplicate() -> None:
    draw = np.random.default_rng(1)
    values = draw.normal(size=(40, 9))
    values[:, 1] = values[:, 2] = 0  # dead
    values[:, 3] = values[:, 4] = 5 + 1e-6 * values[:, 0]  # constant, but for rounding
    values[:, 5] = values[:, 6] = 0
    values[7, 5], values[7, 6] = 3.0, 9.0  # both fire in the same one picture
    values[:, 7] = values[:, 8]
    values[3, 7] = -np.inf  # a map of NaN alone
    told = found(values)
    assert told.groups == () and told.share == 0 and told.compared == 2
    values[:, 7] = -2 * values[:, 8] + 1
    assert found(values).groups == ((7, 8),)


def test_a_few_pictures_say_nothing() -> None:
    def swept(count: int) -> Sweep:
        values = np.random.default_rng(2).normal(size=(count, 3)).astype(np.float32)
        return Sweep(np.arange(count), sample=(LayerFeatures("conv", 0, 128, np.arange(count), values),))

    with pytest.raises(HooksError, match="has 7 pictures so far, and with fewer than 8"):
        find_duplicates(swept(7))
    assert [each.groups for each in find_duplicates(swept(8))] == [()]
    with pytest.raises(HooksError, match="has kept no layer's features"):
        find_duplicates(Sweep(np.arange(9)))


def test_doctests() -> None:
    assert doctest.testmod(duplicates).failed == 0
