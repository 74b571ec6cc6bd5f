"""How alike layers are: debiased CKA by another form of its formula, Procrustes by the matrices, and their worth."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from brought_models import Net
from helpers import assert_untouched
from torch import nn

from hookscope.hooks.causes import likeness as module
from hookscope.hooks.causes.likeness import layer_grams, likeness
from hookscope.hooks.errors import HooksError, LayerNotFound
from hookscope.hooks.results.codec import decode, encode
from hookscope.hooks.results.likeness import Grams, Likeness, Place, compare_grams, gram, hsic

PICTURES = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def grams(*features: np.ndarray, batches: int = 1) -> Grams:
    """Of layers that give these vectors, (picture, feature) each."""
    parts = [np.array_split(each, batches) for each in features]
    places = tuple(Place(f"layer{n}", 0, "Linear") for n in range(len(features)))
    return Grams(places, tuple(np.stack([gram(part[n]) for part in parts]) for n in range(batches)))


def u_centred(features: np.ndarray) -> np.ndarray:
    """Székely and Rizzo's U-centred product matrix: HSIC1 is the sum of two such, multiplied, over n (n - 3)."""
    k = features @ features.T
    np.fill_diagonal(k, 0)
    n = len(k)
    rows = k.sum(1, keepdims=True)
    found = k - rows / (n - 2) - rows.T / (n - 2) + k.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(found, 0)
    return found


def by_hand(x: np.ndarray, y: np.ndarray, batches: int = 1) -> float:
    top = left = right = 0.0
    for one, other in zip(np.array_split(x, batches), np.array_split(y, batches), strict=True):
        k, ell, n = u_centred(one), u_centred(other), len(one)
        top, left, right = (
            total + (a * b).sum() / (n * (n - 3)) for total, a, b in ((top, k, ell), (left, k, k), (right, ell, ell))
        )
    return float(top / np.sqrt(left * right))


@pytest.mark.parametrize("batches", [1, 3])
def test_equal_to_the_u_centred_form_summed_over_batches_and_divided_once(batches):
    common = rng(1).normal(size=(30, 4))
    x = common @ rng(2).normal(size=(4, 50)) + rng(3).normal(size=(30, 50)) + 3
    y = np.tanh(common @ rng(4).normal(size=(4, 7))) + 0.3 * rng(5).normal(size=(30, 7))
    found = compare_grams(grams(x, y, batches=batches), grams(y, batches=batches))
    assert found.cka[0, 0] == pytest.approx(by_hand(x, y, batches), abs=1e-12)
    assert 0.1 < found.cka[0, 0] < 0.99 and found.cka[1, 0] == pytest.approx(1, abs=1e-9)
    if batches > 1:  # the mean of the batches' ratios is another number
        parts = zip(np.array_split(x, batches), np.array_split(y, batches), strict=True)
        assert abs(np.mean([by_hand(*part) for part in parts]) - found.cka[0, 0]) > 1e-3


def test_the_formula_of_four_pictures_by_hand():
    """x = (0, 1, 2, 4): U-centring by fractions gives HSIC1(K, K) without any of our matrices."""
    x = np.array([[0.0], [1.0], [2.0], [4.0]])
    k = [[0 if i == j else x[i, 0] * x[j, 0] for j in range(4)] for i in range(4)]
    trace = sum(k[i][j] * k[j][i] for i in range(4) for j in range(4))
    total = sum(map(sum, k))
    rows = sum(sum(k[i][j] for j in range(4)) * sum(k[i][j] for j in range(4)) for i in range(4))
    right = (trace + total * total / (3 * 2) - 2 / 2 * rows) / (4 * 1)
    assert hsic((x @ x.T)[None], (x @ x.T)[None]).item() == pytest.approx(right, abs=1e-12)
    assert hsic(gram(x)[None], gram(x)[None]).item() == pytest.approx(right, abs=1e-12)  # the mean plays no part


def test_one_for_itself_whatever_the_rotation_and_the_scale():
    x = rng().normal(size=(24, 40))
    turned = 7.3 * x @ np.linalg.qr(rng(1).normal(size=(40, 40)))[0] + 2
    other = rng(2).normal(size=(24, 40)) + x
    found, again = (compare_grams(grams(one, other), grams(x, turned)) for one in (x, turned))
    np.testing.assert_allclose(found.cka[0], 1, atol=1e-9)
    np.testing.assert_allclose(found.procrustes[0], 1, atol=1e-7)
    np.testing.assert_allclose(found.cka, again.cka, atol=1e-9)
    np.testing.assert_allclose(found.procrustes, again.procrustes, atol=1e-7)
    assert found.best.tolist() == [int(found.cka[0].argmax()), int(found.cka[1].argmax())]


def test_independent_noise_has_nothing_in_common_and_the_biased_measure_says_it_has():
    values, biased = [], []
    for seed in range(60):
        x, y = (rng(1000 * side + seed).normal(size=(32, 4096)) for side in (1, 2))
        values.append(compare_grams(grams(x), grams(y)).cka.item() if seed < 4 else by_hand(x, y))
        k, ell = gram(x), gram(y)
        biased.append((k * ell).sum() / np.sqrt((k * k).sum() * (ell * ell).sum()))
    assert abs(np.mean(values)) <= 2 * np.std(values) / np.sqrt(60) and np.abs(values[:4]).max() <= 4 * np.std(values)
    assert 0.04 < np.std(values) < 0.08 and np.mean(biased) > 0.98


def test_procrustes_is_the_nuclear_norm_of_the_matrices_themselves():
    x, y = rng(1).normal(size=(20, 30)), rng(2).normal(size=(20, 6))
    one, other = (each - each.mean(0) for each in (x, y))
    right = np.linalg.svd((one / np.linalg.norm(one)).T @ (other / np.linalg.norm(other)), compute_uv=False).sum()
    assert compare_grams(grams(x), grams(y)).procrustes.item() == pytest.approx(right, abs=1e-8)


def test_equal_to_what_other_libraries_said():
    """Stored: `ckatorch.hsic.hsic1` of ckatorch 1.0.3 on x @ x.T and y @ y.T, summed over one and two batches, divided
    once; and `rsatoolbox.rdm.compare._bures_similarity_second_way` of rsatoolbox 0.3.2 on the centred products."""
    own = rng(11)
    x = own.standard_normal((20, 30))
    y = np.tanh(x[:, :9] @ own.standard_normal((9, 6))) + 0.5 * own.standard_normal((20, 6))
    whole, halves = (compare_grams(grams(x, batches=n), grams(y, batches=n)) for n in (1, 2))
    assert whole.cka.item() == pytest.approx(0.11776002269640883, abs=1e-12)
    assert halves.cka.item() == pytest.approx(0.2129760907404769, abs=1e-12)
    assert whole.procrustes.item() == pytest.approx(0.5385131271658028, abs=1e-8)


def test_the_standard_error_is_of_the_size_of_what_other_pictures_give():
    mixing, values, errors = rng(9).normal(size=(5, 12)), [], []
    for seed in range(150):
        x = rng(seed).normal(size=(30, 5))
        found = compare_grams(grams(x), grams(x @ mixing + 2 * rng(500 + seed).normal(size=(30, 12))))
        values.append(found.cka.item())
        errors.append(found.errors.item())
    assert 0.7 < np.mean(errors) / np.std(values) < 1.5
    assert "With fewer than 64 pictures CKA is uncertain: its standard error is" in found.note
    many = compare_grams(grams(rng().normal(size=(64, 3))), grams(rng(1).normal(size=(64, 3))))
    assert many.errors.size == 0 and many.note == "Over 64 pictures; a layer's vector is the mean over its positions."


def test_a_layer_that_gives_every_picture_the_same_is_like_nothing():
    found = compare_grams(grams(np.full((16, 3), 0.1), rng().normal(size=(16, 3))), grams(rng().normal(size=(16, 3))))
    assert np.isnan([found.cka[0, 0], found.procrustes[0, 0]]).all() and found.best.tolist() == [-1, 0]


# --- of models


def test_the_vectors_of_a_models_layers_are_their_means_over_the_positions() -> None:
    net = Net(5).eval()
    with assert_untouched(net):
        found = layer_grams(net, PICTURES.split(1), "*")
    by_name = dict(zip([each.layer for each in found.places], found.batches[0], strict=True))
    with torch.no_grad():
        maps, answers = net.features(PICTURES).double(), net(PICTURES).double()
    np.testing.assert_allclose(by_name["act"], gram(maps.mean((2, 3)).numpy()), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(by_name["fc"], gram(answers.numpy()), rtol=1e-4, atol=1e-6)
    flat = layer_grams(net, PICTURES.split(1), "act", vectors="flattened")
    np.testing.assert_allclose(flat.batches[0][0], gram(maps.flatten(1).numpy()), rtol=1e-4, atol=1e-6)


def test_two_seeds_of_one_architecture_and_a_model_and_itself() -> None:
    def made(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)
        ).eval()

    one, other = made(1), made(2)
    same = likeness(one, one, PICTURES)
    assert [each.layer for each in same.first] == ["0", "2", "4"]  # those with filters of their own
    np.testing.assert_allclose(np.diag(same.cka), 1, atol=1e-9)
    assert same.best.tolist() == [0, 1, 2] and same.pictures == 20
    two = likeness(one, other, [PICTURES[:12], PICTURES[12:]], patterns=":Conv2d", patterns_second=["0", "4"])
    assert two.cka.shape == (3, 2) and two.best[0] == 0
    again = likeness(one, other, PICTURES, PICTURES.clone(), patterns=":Conv2d", patterns_second=["0", "4"])
    np.testing.assert_array_equal(two.cka, again.cka)


def test_many_pictures_are_taken_in_batches_as_even_as_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 7)
    found = layer_grams(Net(5).eval(), PICTURES.split(1), "fc")
    assert [each.shape for each in found.batches] == [(1, 7, 7), (1, 7, 7), (1, 6, 6)] and found.pictures == 20


@pytest.mark.parametrize(
    "count, others, part", [(15, None, "at least 16 pictures, and these are 15"), (20, 16, "these are 20 and 16")]
)
def test_too_few_or_other_pictures_are_a_sentence(count: int, others: int | None, part: str) -> None:
    net = Net(5).eval()
    with pytest.raises(HooksError, match=part):
        likeness(net, net, PICTURES[:count], None if others is None else PICTURES[:others])
    with pytest.raises(HooksError, match="at least 16 pictures, and these are 9"):
        compare_grams(grams(rng().normal(size=(9, 2))), grams(rng().normal(size=(9, 2))))


def test_models_without_anything_to_compare_are_a_sentence() -> None:
    with pytest.raises(LayerNotFound, match="no layer with a matrix or filters"):
        likeness(nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU()), PICTURES)
    with pytest.raises(LayerNotFound, match="has no layer 'cnv'"):
        likeness(Net(5), Net(5), PICTURES, patterns="cnv")


def test_the_results_cross_to_another_process_and_the_docstring_runs() -> None:
    found = grams(rng().normal(size=(16, 3)))
    compared = compare_grams(found, found)
    back = decode(encode(found), Grams, Likeness)
    np.testing.assert_array_equal(compare_grams(back, back).cka, compared.cka)
    np.testing.assert_array_equal(decode(encode(compared), Grams, Likeness).errors, compared.errors)
    assert doctest.testmod(module, extraglobs={"torch": torch, "nn": nn}).failed == 0
