"""How alike the layers of two models are over the same pictures: debiased linear CKA, and orthogonal Procrustes.

Both are computed from Gram matrices alone: how alike a layer finds each pair of pictures. So two models that are in two
processes are compared by a few kilobytes.

With K and L the Gram matrices of two layers, their diagonals 0, over n pictures (Song et al., "Feature Selection via
Dependence Maximization", JMLR 2012; Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML
2019; Nguyen et al., "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021):

    HSIC1(K, L) = [tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2/(n-2) 1'K L1] / (n (n-3))
    CKA = sum of HSIC1(K, L) / sqrt(sum of HSIC1(K, K) sum of HSIC1(L, L)),        each sum over batches

It is 1 for the same, whatever the rotation and the scale, and about 0, on both sides of it, for layers that have
nothing in common. The plain (biased) CKA says 0.99 of independent noise where features are far more than pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hookscope.hooks.errors import HooksError

LEAST_PICTURES = 16
FEW_PICTURES = 64  # below, the standard error is told
LEAST_BATCH = 4  # HSIC1 divides by n - 3
ROUNDING = 1e-14  # of the largest eigenvalue: its root would be a number
NOTHING = 1e-12  # of a layer's size: a Gram matrix that is rounding alone


@dataclass(frozen=True)
class Place:
    """One call of a layer. type: of its module."""

    layer: str
    call: int
    type: str


@dataclass(frozen=True)
class Grams:
    """How alike each layer of one model finds each pair of pictures.

    Attributes:
        places: in the order of the forward pass.
        batches: per batch of pictures float64 (place, picture, picture): the products of the layer's vectors, after
            their mean over the batch was taken off; of every batch at least `LEAST_BATCH` pictures.
        vectors: how maps became vectors: "pooled" or "flattened".
        left_out: layers that have no vector per picture, and why.
        milliseconds: of all passes.
    """

    places: tuple[Place, ...]
    batches: tuple[np.ndarray, ...]
    vectors: str = "pooled"
    left_out: tuple[str, ...] = ()
    milliseconds: float = 0.0

    @property
    def pictures(self) -> int:
        """How many there were."""
        return sum(each.shape[1] for each in self.batches)


@dataclass(frozen=True)
class Likeness:
    """How alike each layer of one model is to each of another, over the same pictures.

    Attributes:
        first, second: the layers of the two, in the order of their forward passes.
        cka: float64 (first, second), 1 for the same, about 0 for nothing in common; not clamped, so a little below 0,
            too. NaN of a layer that gives every picture the same.
        errors: float64 (first, second), the standard error of `cka` by leaving out each picture in turn; empty of
            `FEW_PICTURES` or more.
        procrustes: float64 (first, second), 0..1: the nuclear norm of X'Y, of centred matrices X and Y of norm 1; 1 for
            the same, whatever the rotation and the scale. It is not debiased: of few pictures and many features it is
            high whatever the layers are. Of several batches the mean, by their numbers of pictures.
        pictures: how many. vectors: how maps became vectors.
    """

    first: tuple[Place, ...]
    second: tuple[Place, ...]
    cka: np.ndarray
    procrustes: np.ndarray
    pictures: int
    vectors: str
    errors: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def best(self) -> np.ndarray:
        """Int64 (first,): the layer of the second model that is most like each of the first; -1 if none is known."""
        known = np.isfinite(self.cka)
        found = np.where(known, self.cka, -np.inf).argmax(1) if self.cka.size else np.empty(0, np.int64)
        return np.where(known.any(1), found, -1)

    @property
    def note(self) -> str:
        """How they were made, and how sure they are, in words."""
        how = {"pooled": "the mean over its positions", "flattened": "all its values"}[self.vectors]
        text = f"Over {self.pictures} pictures; a layer's vector is {how}."
        known = self.errors[np.isfinite(self.errors)]
        if known.size:
            text += (
                f" With fewer than {FEW_PICTURES} pictures CKA is uncertain: its standard error is "
                f"{np.median(known):.2f} in the median, at most {known.max():.2f}."
            )
        return text


def compare_grams(first: Grams, second: Grams) -> Likeness:
    """The likeness of each layer of one model to each of another.

    Arguments:
        first, second: over the same pictures, in the same order and batches.

    Raises:
        HooksError: there are too few pictures, or not the same in both.
    """
    sizes = [tuple(each.shape[1] for each in grams.batches) for grams in (first, second)]
    if sizes[0] != sizes[1]:
        raise HooksError(
            f"Likeness is over the same pictures in both models; these are {first.pictures} and {second.pictures}, or "
            "in other batches. Give both models the same ones."
        )
    if first.pictures < LEAST_PICTURES:
        raise HooksError(
            f"The likeness of layers needs at least {LEAST_PICTURES} pictures, and these are {first.pictures}: over "
            "fewer it says more of the pictures than of the layers. Give it more of them."
        )
    pairs = list(zip(first.batches, second.batches, strict=True))
    errors = np.empty((0, 0))
    if first.pictures < FEW_PICTURES:
        errors = _jackknife(pairs)
    weights = np.array(sizes[0], float) / first.pictures
    procrustes = sum(weight * _procrustes(one, other) for weight, (one, other) in zip(weights, pairs, strict=True))
    return Likeness(
        first.places, second.places, _cka(pairs), np.asarray(procrustes), first.pictures, first.vectors, errors
    )


def gram(features: np.ndarray) -> np.ndarray:
    """Float64 (picture, picture): the products of vectors, after their mean was taken off.

    Arguments:
        features: (picture, feature).
    """
    wide = np.asarray(features, np.float64)
    size = np.linalg.norm(wide)
    centred = wide - wide.mean(0)
    if np.linalg.norm(centred) <= NOTHING * size:  # the same for every picture
        centred = np.zeros_like(centred)
    found: np.ndarray = centred @ centred.T
    return found


def _cka(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    top = sum(hsic(one, other) for one, other in pairs)
    left = sum(_own(one) for one, _ in pairs)
    right = sum(_own(other) for _, other in pairs)
    below = np.asarray(left)[:, None] * np.asarray(right)[None]
    usable = (np.asarray(left)[:, None] > 0) & (np.asarray(right)[None] > 0)
    return np.divide(top, np.sqrt(np.where(usable, below, 1)), out=np.full(below.shape, np.nan), where=usable)


def hsic(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """HSIC1 of every pair of Gram matrices: float64 (first, second).

    Arguments:
        one, other: float64 (place, picture, picture); what stands on their diagonals counts for nothing.
    """
    k, ell = _hollow(one), _hollow(other)
    n = k.shape[1]
    rows_k, rows_l = k.sum(2), ell.sum(2)
    trace = k.reshape(len(k), -1) @ ell.reshape(len(ell), -1).T
    totals = rows_k.sum(1)[:, None] * rows_l.sum(1)[None]
    found: np.ndarray = trace + totals / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows_k @ rows_l.T)
    return found / (n * (n - 3))


def _own(grams: np.ndarray) -> np.ndarray:
    """HSIC1 of each Gram matrix with itself: float64 (place,)."""
    k = _hollow(grams)
    n = k.shape[1]
    rows = k.sum(2)
    found = (k**2).sum((1, 2)) + rows.sum(1) ** 2 / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows**2).sum(1)
    own: np.ndarray = found / (n * (n - 3))
    return own


def _hollow(grams: np.ndarray) -> np.ndarray:
    found = grams.copy()
    places = np.arange(grams.shape[1])
    found[:, places, places] = 0
    return found


def _jackknife(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The standard error of CKA, by leaving out each picture in turn (Tukey, 1958)."""
    found = []
    for number, (one, other) in enumerate(pairs):
        if one.shape[1] <= LEAST_BATCH:
            continue
        for left_out in range(one.shape[1]):
            kept = np.arange(one.shape[1]) != left_out
            fewer = list(pairs)
            fewer[number] = (one[:, kept][:, :, kept], other[:, kept][:, :, kept])
            found.append(_cka(fewer))
    estimates = np.array(found)
    count = len(estimates)
    error: np.ndarray = np.sqrt((count - 1) / count * ((estimates - estimates.mean(0)) ** 2).sum(0))
    return error


def _procrustes(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The nuclear norm of X'Y for each pair: the singular values of the roots' product are those of X'Y."""
    left, right = (_roots(each) for each in (one, other))
    found = np.array([np.linalg.svd(each[None] @ right, compute_uv=False).sum(1) for each in left])
    found[~left.any((1, 2))] = np.nan
    found[:, ~right.any((1, 2))] = np.nan
    return found


def _roots(grams: np.ndarray) -> np.ndarray:
    """The symmetric root of each Gram matrix, of matrices of norm 1; 0 of a layer that gives every picture the same."""
    values, vectors = np.linalg.eigh(grams)
    values = np.where(values > ROUNDING * values.max(1, keepdims=True), values, 0)
    size = values.sum(1)
    scaled = np.divide(values, size[:, None], out=np.zeros_like(values), where=size[:, None] > 0)
    found: np.ndarray = (vectors * np.sqrt(scaled)[:, None]) @ vectors.swapaxes(1, 2)
    found[size <= 0] = 0
    return found
