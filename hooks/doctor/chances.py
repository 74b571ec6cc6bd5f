"""How often chance alone would do as well: exact tests, numpy only."""

from __future__ import annotations

import math

import numpy as np

DRAWS = 1 << 14  # of signs, where there are too many pictures for all of them


def at_least(count: int, of: int) -> float:
    """The chance of at least so many heads of so many throws of a coin: the exact sign (McNemar) test, one-sided.

    >>> at_least(7, 7), at_least(0, 0)
    (0.0078125, 1.0)
    """
    return sum(math.comb(of, each) for each in range(count, of + 1)) / 2**of


def as_often(count: int, of: int, chance: float) -> float:
    """The chance of at least so many hits of so many, each with a chance of its own: the binomial test, one-sided.

    >>> as_often(1, 2, 0.5), as_often(0, 3, 0.1)
    (0.75, 1.0)
    """
    if not count:
        return 1.0
    terms = (math.comb(of, each) * chance**each * (1 - chance) ** (of - each) for each in range(count, of + 1))
    return min(math.fsum(terms), 1.0)


def flipped(differences: np.ndarray) -> float:
    """The chance of a sum as large if each difference were as likely of the other sign: the sign-flip test, one-sided.

    Arguments:
        differences: float (picture,). Up to 14 pictures all signs are gone through, of more a seeded draw.

    >>> flipped(np.ones(3))
    0.125
    """
    count = len(differences)
    if count <= 14:
        signs = 1 - 2 * ((np.arange(1 << count)[:, None] >> np.arange(count)) & 1)
        return float((signs @ differences >= differences.sum() - 1e-12).mean())
    signs = np.random.default_rng(0).choice((-1, 1), (DRAWS, count))
    return float(((signs @ differences >= differences.sum() - 1e-12).sum() + 1) / (DRAWS + 1))


def beyond(p: float, limit: float) -> float:
    """How far a probability is below its limit, in decades from 1 at the limit: what findings are ordered by.

    >>> beyond(0.05, 0.05), beyond(0.0005, 0.05), beyond(0.5, 0.05)
    (1.0, 3.0, 1.0)
    """
    return max(1.0, 1 + math.log10(limit / max(p, 1e-300)))
