"""The likeness of two models' layers on the page, over the built-in photographs: the library's own numbers by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pytest
from own_page import NET, Page, array, opened, operators_folder, texts
from PIL import Image

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.inputs.samples import PHOTOGRAPHS, SAMPLES
from hookscope.dashboard.places import ASSETS
from hookscope.dashboard.sources.load import load
from hookscope.hooks.causes.likeness import layer_grams
from hookscope.hooks.results.likeness import compare_grams

TWO = (
    NET
    + """
    def deeper():
        net, how = make()
        own = torch.Generator().manual_seed(5)
        more = nn.Sequential(*list(net[:2]), nn.Conv2d(4, 6, 3), nn.ReLU(), *list(net[2:4]), nn.Linear(6, 3))
        with torch.no_grad():
            for each in more.parameters():
                each.copy_(torch.randn(each.shape, generator=own))
        return more.eval(), how
"""
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    path = tmp_path_factory.mktemp("likeness")
    with operators_folder(path, like_net=TWO), opened(path, "like_net:make", "like_net:deeper") as made:
        yield made


def test_the_matrix_its_matches_and_the_file(page: Page) -> None:
    both = {"b": page.picture, "model_b": "like_net:deeper", "likeness": True}
    shown = page.shows(**both)
    assert "likeness=1" in page.query
    prepare = load(ModelOptions("like_net:make"), "cpu").prepare
    images = [
        prepare(Image.open(ASSETS / "samples" / SAMPLES[name].file).convert("RGB")).tensor for name in PHOTOGRAPHS
    ]
    one, other = (layer_grams(page.net(model), images) for model in page.models)
    right = compare_grams(one, other)
    matrix, rings = shown["likeness-figure"]["figure"]["data"][:2]
    np.testing.assert_allclose(array(matrix["z"]), right.cka, atol=1e-4)
    np.testing.assert_allclose(array(matrix["customdata"]), right.procrustes, atol=1e-4)
    assert array(rings["x"]).tolist() == right.best.tolist()
    assert shown["likeness-figure"]["figure"]["layout"]["meta"] == {"rows": ["0", "4"], "columns": ["0", "2", "6"]}
    assert right.note in texts(shown["likeness-text"]) and "its standard error" in right.note
    listed = " ".join(texts(shown["likeness-list"]).split())
    best = int(right.best[0])
    numbers = f"{right.cka[0, best]:.2f} ± {right.errors[0, best]:.2f} (Procrustes {right.procrustes[0, best]:.2f})"
    assert f"A's 0 is most like B's {right.second[best].layer} : {numbers}" in listed
    address = next(text for text in texts(shown["likeness-text"]).split() if "/picture/" in text)
    rows = list(csv.reader(io.StringIO(page.client.get(address).get_data(as_text=True))))
    assert len(rows) == 1 + 6 and float(rows[1][2]) == pytest.approx(right.cka[0, 0], abs=1e-4)


def test_of_one_model_or_closed_nothing_is_asked(page: Page) -> None:
    assert "This compares two models." in texts(page.shows(likeness=True)["likeness-text"])
    assert not page.shows()["likeness-text"].get("tree")
