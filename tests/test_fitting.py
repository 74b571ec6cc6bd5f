"""Answers that are too large to be kept: what of them is sent, and what the page shows of that."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from inline_app import InlineApp
from inline_engine import MODEL, InlineEngine, activation_of, answer_to, attention_of
from served import Application, until
from units import answer_of, but, unit_of, what_of

from bench.client import Client
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.worker.fitting import AnswerTooLarge, fit, mean_over_squares, size
from hookscope.hooks.results.codec import encode
from hookscope.hooks.results.looks import InputAttribution
from hookscope.hooks.results.maps import maps

CONV = unit_of(MODEL, "digest", "activation", "conv")


def by_hand(values: np.ndarray, side: int) -> np.ndarray:
    rows, columns = (range(0, length, side) for length in values.shape[1:])
    means = [[values[:, r : r + side, c : c + side].astype(float).mean((1, 2)) for c in columns] for r in rows]
    return np.moveaxis(np.array(means), -1, 0)


# --- the arithmetic


@pytest.mark.parametrize("shape", [(3, 7, 5), (2, 4, 4), (1, 1, 9), (2, 9, 2)])
@pytest.mark.parametrize("side", [2, 3, 5])
def test_means_over_squares_are_those_computed_by_hand(shape: tuple[int, int, int], side: int) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(mean_over_squares(values, side), by_hand(values, side), rtol=1e-6, atol=1e-7)


def test_a_square_with_a_broken_value_is_broken_and_no_other() -> None:
    values = np.ones((1, 6, 6), np.float32)
    values[0, 0, 0], values[0, 2, 2], values[0, 5, 5] = np.nan, np.inf, -np.inf
    found = mean_over_squares(values, 2)[0]
    assert np.isnan(found[0, 0]) and found[1, 1] == np.inf and found[2, 2] == -np.inf
    assert np.isfinite(found).sum() == 6
    assert mean_over_squares(np.full((1, 4, 4), 3e38, np.float32), 4) == np.float32(3e38)  # no overflow on the way


def test_what_fits_is_left_as_it_is() -> None:
    for unit in (CONV, unit_of(MODEL, "digest", "prediction"), but(CONV, layer="vector")):
        result = answer_to(unit)
        assert fit(result, size(result)) is result


def test_an_activation_keeps_its_exact_numbers_and_becomes_as_large_as_it_may() -> None:
    values = np.random.default_rng(1).normal(size=(8, 6, 6)).astype(np.float32)
    whole = activation_of("conv", values)
    found = answer_of(encode(fit(whole, 300)))
    assert found.whole == found.shape == (8, 6, 6) and found.axes == ("channel", "height", "width")
    np.testing.assert_allclose(found.values, by_hand(values, 2), rtol=1e-6, atol=1e-7)
    assert found.values.dtype == np.float32 and found.values.nbytes == 288
    assert encode(found.statistics) == encode(whole.statistics)
    assert whole.whole == () and whole.shape == (8, 6, 6)


def test_tokens_are_reduced_on_their_grid_without_those_before_it() -> None:
    values = np.random.default_rng(2).normal(size=(10, 12)).astype(np.float32)
    found = fit(activation_of("tokens", values), 200)
    grid = np.moveaxis(values[1:].reshape(3, 3, 12), -1, 0)
    np.testing.assert_allclose(maps(found), by_hand(grid, 2), rtol=1e-6, atol=1e-7)
    assert found.whole == (10, 12) and found.prefix_tokens == 0


@pytest.mark.parametrize("layer", ["vector", "conv"])
def test_what_has_no_smaller_map_keeps_its_numbers_only(layer: str) -> None:
    whole = answer_to(but(CONV, layer=layer))
    found = answer_of(encode(fit(whole, 16)))
    assert found.values.size == 0 and found.whole == whole.values.shape
    assert encode(found.statistics) == encode(whole.statistics)


def test_attention_goes_without_its_rollout_or_says_how_large_it_is() -> None:
    whole = attention_of("tokens", np.random.default_rng(3).random((2, 10, 10)), (3, 3), 1)
    found = fit(whole, 900)
    assert found.rollout is None and np.array_equal(found.weights, whole.weights)
    large = replace(whole, weights=np.zeros((2, 1000, 1000), np.float32))
    with pytest.raises(AnswerTooLarge, match=r"takes 8 MB, and more than 1 MB are not kept\. Choose a layer"):
        fit(large, 1_000_000)
    with pytest.raises(AnswerTooLarge):
        fit(InputAttribution("saliency", 0, 0.0, np.zeros((1000, 1000), np.float32)), 1_000_000)


# --- on the page


@pytest.fixture(params=[300, 16], ids=["reduced", "numbers only"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[InlineApp, bool]]:
    """An application whose worker makes activations fit."""

    def answer(unit: Unit) -> Any:
        result = answer_to(unit)
        return fit(result, request.param) if what_of(unit) == "activation" else result

    made = InlineApp(tmp_path, InlineEngine(at_once=True, answer=answer))
    yield made, request.param == 300
    made.close()


def test_a_card_says_what_was_left_out_and_shows_the_rest(app: tuple[InlineApp, bool]) -> None:
    made, has_maps = app
    view = {"model": MODEL, "a": "sample-coffee", "b": "sample-rocket", "layers": ["conv"], "detail": "conv"}
    for number, more in enumerate(({}, {"scale": "channel", "overlay": True}, {"channel": 3, "rank": "difference"})):
        body = {"view": view | more, "page": "p", "drawn": {}, "mounted": 1, "width": 900, "number": number + 1}
        text = made.client.get(made.client.post("/ask", json=body).get_json()["stream"]).text
        assert "event: done" in text and "drawing them failed" not in text and "sentence error" not in text
        assert "8 \\u00d7 6 \\u00d7 6" in text or "8 × 6 × 6" in text
        assert re.search("Its output takes 0 MB, and more than 128 MB are not kept", text)
        assert (("0 MB, reduced to 3×3" in text) or ("0 MB, reduced to 3\\u00d73" in text)) == has_maps
        for address in set(re.findall(r'"(/picture/[\w-]+)"', text)):
            answer = made.client.get(address)
            assert answer.status_code == 200, answer.text
            if answer.mimetype == "application/zip":
                with np.load(io.BytesIO(answer.data)) as file:
                    assert file["whole"].tolist() == [8, 6, 6]


@pytest.mark.parametrize("layer", ["vector", "tokens"])
def test_a_layer_of_another_form_is_shown_too(app: tuple[InlineApp, bool], layer: str) -> None:
    made, _ = app
    view = {"model": MODEL, "a": "sample-coffee", "layers": [layer]}
    body = {"view": view, "page": "p", "drawn": {}, "mounted": 1, "width": 900, "number": 1}
    text = made.client.get(made.client.post("/ask", json=body).get_json()["stream"]).text
    assert "event: done" in text and "drawing them failed" not in text and "sentence error" not in text


# --- with a real worker


LARGE = """
from torch import nn

def net():
    layers = nn.Conv2d(3, 36, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers), {"input_size": 960, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
"""
MODEL_OF_LARGE = "large_outputs:net"


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """A network whose first two layers give 133 MB each."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "large_outputs.py").write_text(LARGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        started = Application(folder / "cache", "--model", MODEL_OF_LARGE)
    page = Client(started.url, MODEL_OF_LARGE)
    until(lambda: b'"phase": "ready"' in page.read(f"state?model={MODEL_OF_LARGE}"), 300, "for the model")
    yield started
    started.stop()


@pytest.mark.slow  # gigabytes, for half a minute
def test_several_large_answers_for_two_pages_arrive_and_the_server_stays_small(application: Application) -> None:
    pages = [Client(application.url, MODEL_OF_LARGE) for _ in range(2)]
    for page, stream in [(page, page.ask(a="sample-coffee", b="sample-chelsea", layers=["0", "1"])) for page in pages]:
        shown = {message["part"]: json.dumps(message["updates"]) for message in page.messages(stream)}
        text = shown["card 0"] + shown["card 1"]
        assert "133 MB, reduced to" in text and "Stopped" not in text and "sentence error" not in text
        assert "takes 133 MB, and more than 128 MB are not kept" in text
    process = psutil.Process(application.process.pid)
    print(f"the server takes {process.memory_info().rss / 1e6:.0f} MB")
    assert process.memory_info().rss < 1.5e9


def test_the_numbers_are_those_of_all_values(application: Application) -> None:
    """The share of zeros after a ReLU: of the whole layer's values, more than of their means over squares."""
    page = Client(application.url, MODEL_OF_LARGE)
    messages = page.messages(page.ask(a="sample-coffee", layers=["1"]))
    shown = {message["part"]: json.dumps(message["updates"]) for message in messages}
    zeros = re.search(r"zeros ([\d.]+) ?%", shown["card 0"])
    assert zeros and 10 < float(zeros[1]) < 90
