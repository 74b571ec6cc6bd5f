"""Whether pictures are a baseline's, and if they are the same ones prepared otherwise, in what."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hookscope.hooks.doctor.baseline.marks import Pictures
from hookscope.hooks.results.reference import SIDE, Reference

How = Literal["same", "order", "numbers", "size", "otherwise", "others"]
ALIKE = 0.9  # correlation of two small pictures above which they are taken for the same photograph
MOST = 0.75  # share of the pictures that has to be known again
EXACT = 1e-3  # of the deviation: less than that is no other normalisation
CANDIDATES = (  # mean and std, by which pixels of 0..1 become what a model is given; as the page calls them
    ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("symmetric", (0.5,), (0.5,)),
    ("unit", (0.0,), (1.0,)),
    ("bytes", (0.0,), (1 / 255,)),
)


@dataclass(frozen=True)
class Given:
    """What pictures are to a baseline.

    Attributes:
        rows: int64 (picture,), which of the baseline's each is; -1 for none.
        how: "same", value by value; "order" of the colours, "numbers" (another normalisation or range), "size", or
            something else ("otherwise") is not the same; "others": they are other pictures.
        gain, offset: float64 (channel,): given = gain x the baseline's + offset.
        order: which of the baseline's channels each is. left: the share of the variance that these do not explain.
    """

    rows: np.ndarray
    how: How
    gain: np.ndarray
    offset: np.ndarray
    order: tuple[int, ...]
    left: float = 0.0


def compare_pictures(now: Pictures, then: Reference) -> Given:
    """Say what pictures are to a baseline's."""
    channels = len(now.mean)
    plain = np.ones(channels), np.zeros(channels), tuple(range(channels))
    places = {digest: row for row, digest in enumerate(then.told.pictures)}
    rows = np.array([places.get(digest, -1) for digest in now.digests], np.int64)
    if (rows >= 0).any():
        return Given(rows, "same", *plain)
    if channels != then.told.size[0]:
        return Given(rows, "others", *plain)
    rows = _known_again(now.small, then.small)
    if (rows >= 0).mean() < MOST:
        return Given(np.full(len(rows), -1), "others", *plain)
    order, gain, offset, left = _fit(now.small[rows >= 0], then.small[rows[rows >= 0]])
    how: How = "otherwise"
    sure = EXACT + 3 * left**0.5
    if now.size != then.told.size:
        how = "size"
    elif order != plain[2]:
        how = "order"
    elif (np.abs(gain - 1) > sure).any() or (np.abs(offset) > sure * np.maximum(then.told.std, 1e-9)).any():
        how = "numbers"
    return Given(rows, how, gain, offset, order, left)


def _known_again(now: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Int64 (picture,): which of the stored ones each is, by its shape in grey; -1 for none."""
    first, second = (_shapes(each) for each in (now, then))
    alike = first @ second.T
    best = alike.argmax(1)
    own = np.arange(len(now))
    there = own < len(then)
    same = np.where(there, own, 0)
    best = np.where(there & (alike[own, same] >= alike.max(1) - 1e-3), same, best)
    return np.where(alike[own, best] >= ALIKE, best, -1)


def _shapes(small: np.ndarray) -> np.ndarray:
    """Float64 (picture, 64) of length 1: the small pictures in grey, without their mean."""
    grey = np.nan_to_num(small.astype(np.float64)).mean(1).reshape(len(small), SIDE * SIDE)
    away = grey - grey.mean(1, keepdims=True)
    return np.asarray(away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12))


def _fit(now: np.ndarray, then: np.ndarray) -> tuple[tuple[int, ...], np.ndarray, np.ndarray, float]:
    """Which order of the channels, gain and offset explain `now` best by `then`, and the share of variance left."""
    channels = now.shape[1]
    pairs = {(a, b): _line(then[:, b], now[:, a]) for a in range(channels) for b in range(channels)}
    orders = itertools.permutations(range(channels)) if channels <= 4 else [tuple(range(channels))]
    left = {order: max(pairs[a, b][2] for a, b in enumerate(order)) for order in orders}
    plain = tuple(range(channels))
    best = min(left, key=lambda order: left[order])
    if left[best] > left[plain] / 4 or left[plain] < 1e-9:  # one channel as good as the other: a grey picture
        best = plain
    lines = [pairs[pair] for pair in enumerate(best)]
    return best, np.array([each[0] for each in lines]), np.array([each[1] for each in lines]), left[best]


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Gain, offset, and the share of y's variance that they leave."""
    x, y = x.reshape(-1).astype(np.float64), y.reshape(-1).astype(np.float64)
    varies, own = x.var(), y.var()
    gain = float(((x - x.mean()) * (y - y.mean())).mean() / varies) if varies > 0 else 1.0
    offset = float(y.mean() - gain * x.mean())
    left = float(((y - gain * x - offset) ** 2).mean() / own) if own > 0 else 0.0
    return gain, offset, left


def proposal(given: Given, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[str, str]:
    """How pictures have to be prepared instead: as the page writes it, "" where it has no word; and in words.

    Arguments:
        mean, std: by which pixels of 0..1 became what was given; () where nobody knows.
    """
    gain, offset, channels = given.gain, given.offset, len(given.gain)
    own = [np.broadcast_to(np.asarray(each, float), channels) for each in (mean, std)] if mean and std else None
    if own is None:
        return "", f"take {_list(offset)} off the channels and divide them by {_list(gain)}"
    wanted = own[0] + offset * own[1], own[1] * gain
    words = f"normalise pixels of 0..1 by mean {_list(wanted[0])} and standard deviation {_list(wanted[1])}"
    for name, *numbers in CANDIDATES:
        if all(np.allclose(one, other, rtol=1e-2, atol=2e-3) for one, other in zip(wanted, numbers, strict=True)):
            return name, words
    return "", words


def _list(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in np.round(values, 6) + 0.0)
