"""Pictures in a plane: PCA is scikit-learn's, t-SNE openTSNE's own call, and clusters that were planted lie apart."""

from __future__ import annotations

import math
import sys
import time

import numpy as np
import pytest
from openTSNE import TSNE
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from tempo import limit

import hookscope as hs
from hookscope.hooks.results.codec import decode, encode
from hookscope.hooks.results.embedding import Embedding, tsne_is_there


def planted(count: int = 60, channels: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three clusters that lie far from each other, float32 (picture, channel), and which one each picture is of."""
    draw = np.random.default_rng(seed)
    centres, which = 12 * draw.standard_normal((3, channels)), np.arange(count) % 3
    return (centres[which] + draw.standard_normal((count, channels))).astype(np.float32), which


@pytest.mark.parametrize("shape", [(50, 7), (7, 50), (300, 300), (1000, 1280), (3, 1), (40, 2)])
def test_pca_is_scikit_learns(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(1)
    values = (draw.standard_normal(shape) * np.linspace(1, 4, shape[1]) + 5).astype(np.float32)
    found = hs.embed(values)
    axes = min(2, *shape)
    oracle = PCA(axes, svd_solver="full").fit(values.astype(np.float64))
    expected = oracle.transform(values.astype(np.float64))
    assert found.points.shape == (shape[0], 2) and found.points.dtype == np.float32
    np.testing.assert_allclose(np.abs(found.points[:, :axes]), np.abs(expected), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.shares[:axes], oracle.explained_variance_ratio_, rtol=1e-6)
    for axis in range(axes):  # turned so that the channel with the largest weight has a positive one
        weights = oracle.components_[axis]
        turned = np.sign(weights[np.abs(weights).argmax()])
        np.testing.assert_allclose(found.points[:, axis], turned * expected[:, axis], rtol=1e-4, atol=1e-4)


def test_pca_does_not_flip_with_the_order_of_the_pictures_nor_with_their_scale() -> None:
    values, _ = planted()
    found = hs.embed(values).points
    order = np.random.default_rng(2).permutation(len(values))
    np.testing.assert_allclose(hs.embed(values[order]).points, found[order], rtol=1e-4, atol=1e-3)
    for scale in (1e-30, 1e30):
        scaled = hs.embed(values.astype(np.float64) * scale)
        np.testing.assert_allclose(scaled.points / scale, found, rtol=1e-4, atol=1e-3)


def test_what_varies_in_one_direction_or_in_none_is_said() -> None:
    line = np.outer(np.arange(5.0), [3.0, 4.0])
    found = hs.embed(line)
    np.testing.assert_allclose(found.points, np.stack([5 * np.arange(5) - 10, np.zeros(5)], 1), atol=1e-6)
    assert found.shares == (pytest.approx(1), 0) and "100% and 0%" in found.note
    same = hs.embed(np.ones((4, 3)))
    assert not same.points.any() and math.isnan(same.shares[0]) and "are the same" in same.note


def test_pictures_without_finite_features_have_no_place_and_move_no_other() -> None:
    values, _ = planted()
    broken = np.concatenate([values, [np.full(20, np.nan), np.full(20, -np.inf)]]).astype(np.float32)
    found = hs.embed(broken)
    np.testing.assert_array_equal(found.points[:-2], hs.embed(values).points)
    assert np.isnan(found.points[-2:]).all()


def test_a_thousand_pictures_of_the_widest_layer_take_no_time() -> None:
    values = np.random.default_rng(3).standard_normal((1000, 1280)).astype(np.float32)
    hs.embed(values[:100])
    began = time.perf_counter()
    hs.embed(values)
    assert time.perf_counter() - began < limit(0.25)


def test_tsne_is_opentsnes_own_call_and_the_same_again() -> None:
    values, _ = planted(90)
    found = hs.embed(values, "tsne", seed=4, perplexity=12)
    own = TSNE(perplexity=12, initialization="pca", neighbors="exact", random_state=4, n_jobs=1).fit(values)
    np.testing.assert_allclose(found.points, np.asarray(own), rtol=1e-5)
    assert (found.perplexity, found.seed) == (12, 4) and "perplexity 12, seed 4" in found.note
    np.testing.assert_array_equal(hs.embed(values, "tsne", seed=4, perplexity=12).points, found.points)
    assert not np.array_equal(hs.embed(values, "tsne", seed=5, perplexity=12).points, found.points)


def test_tsne_keeps_neighbours_together_better_than_pca() -> None:
    values = load_digits().data[:300].astype(np.float32)
    far, near = (hs.embed(values, method).points for method in ("pca", "tsne"))
    assert trustworthiness(values, near, n_neighbors=10) > 0.97
    assert trustworthiness(values, near, n_neighbors=10) > trustworthiness(values, far, n_neighbors=10) + 0.1


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_planted_clusters_lie_apart(method: str) -> None:
    values, which = planted()
    points = hs.embed(values, method).points  # type: ignore[arg-type]
    centres = np.stack([points[which == each].mean(0) for each in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
    np.testing.assert_array_equal(nearest, which)


def test_the_perplexity_is_as_large_as_the_pictures_allow() -> None:
    values, _ = planted(31)
    assert hs.embed(values, "tsne").perplexity == 10
    assert hs.embed(planted(99)[0], "tsne").perplexity == 30


def test_what_makes_no_plane_is_refused() -> None:
    for values in (np.ones((2, 5)), np.ones(5), np.ones((4, 0)), np.ones((3, 2, 2))):
        with pytest.raises(hs.HooksError, match="at least 3 pictures"):
            hs.embed(values)
    with pytest.raises(hs.HooksError, match="Only 2 of these 5 pictures"):
        hs.embed(np.concatenate([np.ones((2, 2)), np.full((3, 2), np.nan)]))
    with pytest.raises(hs.HooksError, match="no embedding 'umap'"):
        hs.embed(planted()[0], "umap")  # type: ignore[arg-type]
    for count, perplexity in ((60, 20), (60, 0.5), (3, None)):
        with pytest.raises(hs.HooksError, match=f"is none for {count} pictures"):
            hs.embed(planted(count)[0], "tsne", perplexity=perplexity)


def test_without_opentsne_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tsne_is_there()
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(hs.HooksError, match=r"pip install 'hookscope\[tsne\]'"):
        hs.embed(planted()[0], "tsne")


def test_it_is_written_and_read() -> None:
    found = hs.embed(planted()[0])
    again = decode(encode(found), Embedding)
    np.testing.assert_array_equal(again.points, found.points)
    assert again.shares == found.shares and again.method == "pca"
