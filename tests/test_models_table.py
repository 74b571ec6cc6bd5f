"""Every offered model on one picture: the table fills row by row, and loads nothing while it is closed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from own_page import NET, Page, opened, operators_folder, texts

from hookscope.dashboard.panels.models import Said, overlap

MODELS = ("models_net:make", "other=models_net:other", "broken=models_net:broken")
BROKEN = (
    NET
    + """
    def broken():
        raise RuntimeError("it has no weights here")
"""
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    path = tmp_path_factory.mktemp("table")
    with operators_folder(path, models_net=BROKEN), opened(path, *MODELS, load=1) as made:
        yield made


@pytest.mark.parametrize("chart", ["apart", "back"])
def test_while_the_other_model_is_loaded_the_depth_says_so(page: Page, chart: str) -> None:
    shown = page.shows(b=page.picture, model_b="other", tab="depth", depth=chart)
    assert texts(shown["gradients-text"]).count("B's model, other, is being loaded.") == 1
    assert "With a second" not in texts(shown["gradients-text"])


def test_closed_it_asks_no_model_and_open_it_fills_row_by_row(page: Page) -> None:
    assert page.engine.state("other").phase == "idle"
    assert not page.shows()["models"].get("tree") and page.engine.state("other").phase == "idle"
    shown = page.shows(models=True)
    assert "models=1" in page.query
    table = texts(shown["models"])
    shares = {}
    for name in ("models_net:make", "other"):
        with torch.no_grad():
            shares[name] = page.net(name if ":" in name else "models_net:other")(page.tensor).softmax(1)[0].numpy()
        for share in shares[name]:
            assert f"{share:.3f}" in table
    common = float(np.minimum(*shares.values()).sum())
    first = [int(each.argmax()) for each in shares.values()]
    word = "the same" if first[0] == first[1] else "another"
    assert f"{word} first class, 3 of 3 in common, overlap {100 * common:.1f}" in table.replace("\u202f", " ")
    assert "it has no weights here" in table and "Try again" not in table.split("it has no weights here")[0]
    assert str(shown["models"]).count("'data-put'") == 6
    address = next(text for text in texts(shown["models"]).split() if "/picture/" in text)
    rows = list(csv.reader(io.StringIO(page.client.get(address).get_data(as_text=True))))
    assert rows[0][:4] == ["model", "rank", "class", "share"] and len(rows) == 1 + 2 * 3
    assert float(rows[4][3]) == pytest.approx(float(shares["other"].max()), rel=1e-6)
    assert float(rows[4][4]) == pytest.approx(common, rel=1e-5) and float(rows[1][4]) == pytest.approx(1)


def test_without_a_picture_it_says_what_to_do(page: Page) -> None:
    assert "Choose a picture above." in texts(page.shows(a="", models=True)["models"])


def test_the_overlap_is_of_shares_that_exclude_each_other_and_of_classes_by_name() -> None:
    one = Said((("cat", 0.7), ("dog", 0.3)), {"cat": 0.7, "dog": 0.3}, True)
    other = Said((("dog", 0.6), ("cup", 0.4)), {"dog": 0.6, "cup": 0.4}, True)
    assert overlap(one, other) == pytest.approx(0.3) and overlap(one, one) == pytest.approx(1)
    apart = Said((("cup", 1.0),), {"cup": 1.0}, True)
    assert overlap(one, apart) is None and overlap(one, Said(one.best, one.shares, False)) is None
