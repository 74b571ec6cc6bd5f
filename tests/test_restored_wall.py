"""The fourth wall of a card with two sides: what each channel of A brings back of A's answer in B's run."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from own_page import NET, Page, array, opened, operators_folder, texts
from PIL import Image
from torch import Tensor

from hookscope.dashboard.drawing.geometry import wall_geometry
from hookscope.dashboard.drawing.wall_figure import Panel, Words, wall_figure
from hookscope.dashboard.page.restoring import maps_of, scales_of, signature
from hookscope.dashboard.page.view import View
from hookscope.hooks.results.restoring import RestoredParts

MODEL, OTHER, SMALL = "backwards:make", "backwards:other", "backwards:small"
STRANGE, WIDER = "backwards:strange", "backwards:wider"
WITH_SMALL = f"""{NET}
    def small():
        net, options = make()
        fewer = nn.Linear(4, 2)
        fewer.weight.data, fewer.bias.data = net[4].weight.data[:2], net[4].bias.data[:2]
        return nn.Sequential(*net[:4], fewer).eval(), options

    def strange():
        net, options = make()
        return nn.Sequential(nn.Sequential(net)).eval(), options

    def wider():
        net, options = make()
        return nn.Sequential(nn.Conv2d(3, 6, 3), *net[1:4], nn.Linear(6, 3)).eval(), options
"""
CHOSEN = {"layers": ["0"], "target": 0, "target_b": 1, "apart": True}  # before the ReLU: what follows is not linear


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("back")
    with operators_folder(folder, backwards=WITH_SMALL), opened(folder, MODEL, OTHER, SMALL, STRANGE, WIDER) as made:
        yield made


@pytest.fixture(scope="module")
def dark(page: Page) -> tuple[str, Tensor]:
    """Another picture: its key, and what the model is given of it."""
    pixels = np.random.default_rng(1).integers(0, 90, (12, 12, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    key = page.inputs.receive(io.BytesIO(buffer.getvalue()), None, "dark.png").key
    return key, torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def by_hand(page: Page, dark: tuple[str, Tensor]) -> tuple[float, float, list[float]]:
    """M of A, of B, and of B's run with one channel after the other of A's, by a hook of torch's own."""
    net, seen = page.net(MODEL), []
    a, b = page.tensor, dark[1]
    handle = net[0].register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    with torch.no_grad():
        of_a, of_b = (float(net(each)[0] @ torch.tensor([1.0, -1.0, 0.0])) for each in (a, b))
    handle.remove()
    moved = []
    for channel in range(4):

        def put(module: Any, args: Any, output: Tensor, channel: int = channel) -> Tensor:
            output = output.clone()
            output[0, channel] = seen[0][0, channel]
            return output

        handle = net[0].register_forward_hook(put)
        with torch.no_grad():
            logits = net(b)[0]
        handle.remove()
        moved.append(float(logits[0] - logits[1]))
    return of_a, of_b, moved


def walls(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """The channels' traces of a card's walls."""
    traces = [each for each in shown["card-wall 0"]["figure"]["data"] if each["type"] == "heatmap"]
    return traces[::2]


def told(shown: dict[str, Any]) -> np.ndarray:
    """What the fourth wall's cells say of each channel: (channel, number), by the channel's index."""
    trace = walls(shown)[3]
    cells, numbers = array(trace["z"]).ravel(), array(trace["customdata"])
    numbers = numbers.reshape(-1, numbers.shape[-1])
    return numbers[[int(np.flatnonzero(cells == channel)[0]) for channel in range(4)]]


def test_hovering_a_cell_says_how_bs_answer_would_move(
    page: Page, dark: tuple[str, Tensor], by_hand: tuple[float, float, list[float]]
) -> None:
    of_a, of_b, moved = by_hand
    shares = [(each - of_b) / (of_a - of_b) for each in moved]
    assert len({round(each, 3) for each in shares}) > 2  # else any order would do
    shown = page.shows(b=dark[0], restored=True, **CHOSEN)
    assert "restored=1" in page.query
    np.testing.assert_allclose(told(shown)[:, 0], moved, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(told(shown)[:, 1], shares, rtol=1e-4, atol=1e-5)
    template = walls(shown)[3]["hovertemplate"]
    assert "with channel %{z:.0f} of A, B's logit difference “class 0” − “class 1”" in template.replace("<br>", " ")
    assert f"goes from {of_b:.4g} to %{{customdata[0]:+.4~g}}" in template and "of A's answer comes back" in template
    assert set(np.ravel(walls(shown)[3]["text"])) == {""}  # all are measured
    said = texts(shown["card-labels 0"]["tree"])
    assert "the whole layer brings 100% back, all paths pass here" in said and "4 of 4 measured" in said
    assert "the estimate by one gradient agrees" in said
    strongest = int(np.abs(shares).argmax())
    assert f"{strongest}  {shares[strongest]:.1%}" in said
    bars = [each for each in shown["card-wall 0"]["figure"]["data"] if each["type"] == "scatter"]
    assert {each["xaxis"] for each in bars} == {"x4"}


def test_it_is_off_until_somebody_wants_it_and_stands_in_the_address(page: Page, dark: tuple[str, Tensor]) -> None:
    shown = page.shows(b=dark[0], **CHOSEN)
    assert len(walls(shown)) == 3 and "restored" not in page.query
    tree = json.dumps(shown["card-labels 0"]["tree"])
    assert "+ A restored in B" in tree and json.dumps(json.dumps({"restored": True}))[1:-1] in tree
    assert View.from_query("restored=1").to_query() == "restored=1"
    alone = page.shows(restored=True, **CHOSEN)  # one side: there is nothing to restore
    assert len(walls(alone)) == 1 and "A restored in B" not in json.dumps(alone["card-labels 0"]["tree"])
    vector = page.shows(b=dark[0], restored=True, **{**CHOSEN, "layers": ["4"]})
    assert "A in B" not in json.dumps(vector["card-labels 0"]["tree"])


def test_it_ranks_the_walls_and_stands_in_the_table_and_the_files(
    page: Page, dark: tuple[str, Tensor], by_hand: tuple[float, float, list[float]]
) -> None:
    of_a, of_b, moved = by_hand
    shares = np.array([(each - of_b) / (of_a - of_b) for each in moved])
    shown = page.shows(b=dark[0], restored=True, rank="back", table=True, **CHOSEN)
    order = np.argsort(-np.abs(shares)).tolist()
    cells = array(walls(shown)[0]["z"]).ravel()
    assert [int(cell) for cell in cells if np.isfinite(cell)] == order
    grid = shown["card-table 0"]["children"][0]["props"]
    assert [row["channel"] for row in grid["rowData"]] == order
    np.testing.assert_allclose([row["back"] for row in grid["rowData"]], shares[order], rtol=1e-4, atol=1e-6)
    assert {"A in B", "A in B, estimate"} <= {column["headerName"] for column in grid["columnDefs"]}
    files = {node[2][0]: node[1]["href"] for node in shown["card-files 0"]["tree"] if node[0] == "a"}
    head, *rows = page.client.get(files["Numbers per channel, CSV"]).get_data(as_text=True).splitlines()
    at = head.split(",").index("A in B")
    np.testing.assert_allclose([float(row.split(",")[at]) for row in rows], shares[order], rtol=1e-4, atol=1e-6)
    wide = Image.open(io.BytesIO(page.client.get(files["Picture, PNG"]).data)).width
    plain = page.shows(b=dark[0], rank="back", **CHOSEN)
    files = {node[2][0]: node[1]["href"] for node in plain["card-files 0"]["tree"] if node[0] == "a"}
    assert Image.open(io.BytesIO(page.client.get(files["Picture, PNG"]).data)).width < wide
    assert len(walls(plain)) == 3 and [int(cell) for cell in cells if np.isfinite(cell)] == order


def test_its_picture_is_drawn_and_stands_in_the_exported_page(page: Page, dark: tuple[str, Tensor]) -> None:
    shown = page.shows(b=dark[0], restored=True, **CHOSEN)
    address = shown["card-wall 0"]["figure"]["layout"]["images"][3]["source"]
    with Image.open(io.BytesIO(page.client.get(address).data)) as picture:
        assert (
            picture.size
            == Image.open(
                io.BytesIO(page.client.get(shown["card-wall 0"]["figure"]["layout"]["images"][0]["source"]).data)
            ).size
        )
    saved = page.client.get(shown["export-view"]["href"]).get_data(as_text=True)
    assert "with A restored in B" in saved
    assert "of A's answer comes back" in saved or "of A\\u0027s answer comes back" in saved


def test_a_model_of_the_same_shape_gets_the_other_ones_values(page: Page) -> None:
    """A's activation of A's model in the run of B's, whose weights are other ones; by hand."""
    one, other = page.net(MODEL), page.net(OTHER)
    contrast = torch.tensor([1.0, -1.0, 0.0])
    with torch.no_grad():
        a, b = one[0](page.tensor), other[0](page.tensor)
        of_a, of_b = (float(net(page.tensor)[0] @ contrast) for net in (one, other))
        moved = []
        for channel in range(4):
            value = b.clone()
            value[0, channel] = a[0, channel]
            moved.append(float(other[1:](value)[0] @ contrast))
    shown = page.shows(b=page.picture, model_b=OTHER, restored=True, **CHOSEN)
    np.testing.assert_allclose(told(shown)[:, 0], moved, rtol=1e-4, atol=1e-4)
    shares = [(each - of_b) / (of_a - of_b) for each in moved]
    np.testing.assert_allclose(told(shown)[:, 1], shares, rtol=1e-4, atol=1e-4)
    assert "all paths pass here" not in texts(shown["card-labels 0"]["tree"])  # what follows is B's own


def test_why_it_cannot_be_stands_where_it_would_be(page: Page) -> None:
    for chosen, sentence in (
        ({"b": page.picture}, "differ in nothing for these two classes"),
        ({"b": page.picture, "model_b": SMALL}, "do not answer the same classes"),
    ):
        shown = page.shows(restored=True, **{**CHOSEN, **chosen})
        notes = shown["card-wall 0"]["figure"]["layout"]["annotations"]
        assert sentence in notes[0]["text"].replace("<br>", " ") and notes[0]["x"] > 0.7
        assert len(walls(shown)) == 3


def test_it_is_offered_where_it_can_be_answered(page: Page) -> None:
    def offered(**chosen: Any) -> tuple[bool, set[str]]:
        shown = page.shows(**{**CHOSEN, **chosen})
        ranks = {each["value"] for each in shown["rank"]["data"]}
        return "+ A restored in B" in texts(shown["card-labels 0"]), ranks & {"back", "difference"}

    both = {"back", "difference"}
    assert offered() == (False, set())  # one side
    assert offered(b=page.picture, prepare_b="bgr") == (True, both)
    assert offered(b=page.picture, model_b=OTHER) == (True, both)
    assert offered(b=page.picture, model_b=SMALL) == (False, {"difference"})  # other classes
    assert offered(b=page.picture, model_b=STRANGE) == (False, {"difference"})  # no layer in common
    assert offered(b=page.picture, model_b=WIDER) == (False, both)  # this layer alone does not fit
    assert offered(rank="back") == (False, {"back"})  # what is chosen stays, and the wall says why


def test_what_is_not_measured_says_so_and_the_cells_show_where_and_how_much() -> None:
    nan = math.nan
    parts = RestoredParts("0", 0, "channels", np.array([0.2, 0.4, -0.1]), np.array([0.3, nan, nan]), 1, 3)
    assert parts.best.tolist() == [0.3, 0.4, -0.1] and parts.strongest.tolist() == [1, 0, 2]
    done = RestoredParts("0", 0, "channels", parts.estimate, np.array([0.3, nan, -0.35]), 2, 2)
    assert done.strongest.tolist() == [2, 0, 1]  # what is only estimated comes last
    assert signature(parts) != signature(done) and signature(None) == ""
    gap = np.array([[[0, 2, -4]], [[0, 0, 0]], [[nan, 1, 1]]], np.float32)
    drawn = maps_of(gap, parts)
    np.testing.assert_allclose(drawn[:, 0], [[0, 0.15, 0.3], [0, 0, 0], [0, -0.1, -0.1]], atol=1e-7)
    *channels, mean = scales_of(drawn, parts)
    assert {each.high for each in channels} == {0.4} and mean.high == pytest.approx(0.2 / 3, abs=1e-7)
    words = Words((parts.best,), lambda share: f"%{{{share}:.1%}}%{{text}}", ["", " (e)", " (e)"], "first")
    geometry = wall_geometry(3, 1, 3, 300)
    numbers = np.zeros((4, 3), np.float32)
    figure = wall_figure([Panel("A in B", "/a", numbers, marks=parts.best, words=words)], np.arange(3), geometry)
    assert [text for row in figure.data[0].text for text in row][:4] == ["", "", " (e)", " (e)"]
    assert "customdata[0]" in figure.data[0].hovertemplate and figure.data[1].hovertemplate.startswith("first")
