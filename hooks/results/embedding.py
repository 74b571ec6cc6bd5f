"""Pictures as points in a plane: what a layer finds alike lies together; numpy only.

PCA shows the two directions in which the pictures differ most, and how much of all their differences that is. t-SNE
(van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008; by the package openTSNE: Poličar, Stražar and
Zupan, Journal of Statistical Software 2024) keeps neighbours together and nothing else.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hookscope.hooks.errors import HooksError

FEWEST = 3  # pictures
PERPLEXITY = 30.0
NEIGHBOURS = 3  # for each unit of perplexity t-SNE looks at so many pictures around one
EXACT = 5_000  # pictures, up to which neighbours are found by looking at every pair

Method = Literal["pca", "tsne"]


@dataclass(frozen=True)
class Embedding:
    """Pictures in a plane.

    Attributes:
        method: "pca" or "tsne".
        points: float32 (picture, 2); NaN of a picture whose features are not all finite.
        shares: of the variance of the features, what each axis holds, 0..1; NaN of t-SNE, and where nothing varies.
        seed, perplexity: of t-SNE; NaN of PCA.
    """

    method: Method
    points: np.ndarray
    shares: tuple[float, float] = (float("nan"), float("nan"))
    seed: int = 0
    perplexity: float = float("nan")

    @property
    def note(self) -> str:
        """How it is to be read, in words."""
        if self.method == "tsne":
            return (
                "t-SNE keeps neighbours together. How far clusters lie apart, how large they are and how they are "
                f"turned means nothing (perplexity {self.perplexity:g}, seed {self.seed})."
            )
        first, second = self.shares
        if not np.isfinite(first):
            return "The features of all pictures are the same, so there is no direction in which they differ."
        return (
            f"The two axes hold {first + second:.0%} of the variance ({first:.0%} and {second:.0%}): the rest of the "
            "differences is not seen here."
        )


def embed(features: np.ndarray, method: Method = "pca", *, seed: int = 0, perplexity: float | None = None) -> Embedding:
    """Lay pictures out in a plane by their features.

    Arguments:
        features: float (picture, channel), e.g. `sweep(model, loader, [features("avgpool")]).features[0].values`.
        method: "pca", or "tsne" with the package openTSNE.
        seed: t-SNE's. perplexity: about how many neighbours a picture has for t-SNE; by default 30, or as many as the
            number of pictures allows.

    Returns:
        PCA's axes are turned so that of each the channel with the largest weight has a positive one: the same features
        give the same picture.

    Raises:
        HooksError: there are fewer than 3 pictures, the perplexity is none for so many, or openTSNE is not installed.

    >>> embed(np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])).points[:, 0]
    array([-2.,  0.,  2.], dtype=float32)
    """
    values = np.asarray(features)
    if values.ndim != 2 or len(values) < FEWEST or not values.shape[1]:
        raise HooksError(
            f"A plane needs the features of at least {FEWEST} pictures, and this is {values.shape}. Give an array "
            "(picture, channel)."
        )
    points = np.full((len(values), 2), np.nan, np.float32)
    known = np.isfinite(values).all(1)
    if known.sum() < FEWEST:
        raise HooksError(
            f"Only {known.sum()} of these {len(values)} pictures have features that are all finite, and a plane needs "
            f"{FEWEST}. Find the layer in which NaN or infinite values begin."
        )
    if method == "pca":
        points[known], shares = principal(values[known])
        return Embedding("pca", points, shares, seed)
    if method != "tsne":
        raise HooksError(f"There is no embedding {method!r}. Choose 'pca' or 'tsne'.")
    most = (int(known.sum()) - 1) / NEIGHBOURS
    chosen = min(PERPLEXITY, most) if perplexity is None else float(perplexity)
    if not 1 <= chosen <= most:
        raise HooksError(
            f"A perplexity of {chosen:.3g} is none for {known.sum()} pictures: it lies between 1 and a third of "
            "their number. Give more pictures, or another one."
        )
    points[known] = neighbouring(values[known], chosen, seed)
    return Embedding("tsne", points, seed=seed, perplexity=chosen)


def principal(values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Float64 (picture, 2) coordinates along the first two principal axes, and the variance's share of each.

    Arguments:
        values: finite float (picture, channel).
    """
    centred = values.astype(np.float64)
    centred -= centred.mean(0)
    size = np.abs(centred).max()
    if not size:
        return np.zeros((len(values), 2)), (float("nan"), float("nan"))
    centred /= size  # so that the squares neither overflow nor vanish
    wide = centred.shape[1] > centred.shape[0]
    # the two products have the same eigenvalues but for zeros: take the smaller one
    eigenvalues, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    total = float(np.square(centred).sum())
    points, shares = np.zeros((len(values), 2)), [0.0, 0.0]
    for place in range(min(2, len(eigenvalues))):
        value, vector = float(eigenvalues[-1 - place]), vectors[:, -1 - place]
        if value <= eigenvalues[-1] * len(eigenvalues) * np.finfo(np.float64).eps:
            break  # what is left is rounding, and its direction nobody's
        axis = centred.T @ vector / np.sqrt(value) if wide else vector
        points[:, place] = centred @ axis * np.sign(axis[np.abs(axis).argmax()]) * size
        shares[place] = value / total
    return points, (shares[0], shares[1])


def tsne_is_there() -> bool:
    """Whether openTSNE is installed; it is not imported for this."""
    return importlib.util.find_spec("openTSNE") is not None


def neighbouring(values: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Float64 (picture, 2) coordinates by t-SNE, beginning from PCA; the same for the same seed.

    Raises:
        HooksError: openTSNE is not installed.
    """
    try:
        from openTSNE import TSNE
    except ImportError:
        raise HooksError(
            "t-SNE needs the package openTSNE: pip install 'hookscope[tsne]', or pip install 'openTSNE>=1.0.4'."
        ) from None
    method = "exact" if len(values) <= EXACT else "auto"
    run = TSNE(perplexity=perplexity, initialization="pca", neighbors=method, random_state=seed, n_jobs=1)
    return np.asarray(run.fit(values), np.float64)
