"""A layer's weights: values, norms and numbers against torch's own, drawn, as CSV, and between two models."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from own_page import Page, array, opened, operators_folder, texts
from PIL import Image
from torch import nn

from hookscope.dashboard.drawing.numbers import format_share
from hookscope.dashboard.drawing.weight_pictures import MATRIX_PX, MOST_FILTERS, picture, scale_of, tiles
from hookscope.hooks.errors import HooksError
from hookscope.hooks.looks import weights as module
from hookscope.hooks.looks.weights import weights
from hookscope.hooks.results.codec import decode, encode
from hookscope.hooks.results.weights import Weights

NETS = """
    import torch
    from torch import nn

    def build(seed, classes=3):
        own = torch.Generator().manual_seed(seed)
        body = [nn.Conv2d(3, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3)]
        net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own))
        return net.eval(), dict(input_size=16, resize=16, mean=(0.5,) * 3, std=(0.5,) * 3)

    def one():
        return build(1)

    def two():
        return build(2)

    def other():
        return build(3, 5)

    def broken():
        net, how = build(1)
        net[0].weight.data[2, 0, 0, 0] = float("nan")
        return net, how
"""


def by_hand(values: torch.Tensor, axis: int = 0) -> np.ndarray:
    rows = (
        values.detach().double().movedim(axis, 0).flatten(1) if values.ndim > 1 else values.detach().double()[:, None]
    )
    return (rows**2).sum(1).sqrt().numpy()


@pytest.mark.parametrize(
    ("layer", "axis"),
    [
        (nn.Conv2d(3, 8, 5), 0),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), 0),
        (nn.Conv1d(4, 6, 3), 0),
        (nn.Conv3d(2, 5, 3), 0),
        (nn.ConvTranspose2d(4, 6, 3), 1),
        (nn.Linear(7, 5), 0),
        (nn.BatchNorm2d(9), 0),
        (nn.Embedding(11, 4), 0),
        (nn.MultiheadAttention(8, 2), 0),
        (nn.Linear(7, 5).half(), 0),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, nn.Module) else str(each),
)
def test_values_numbers_and_norms_are_torchs(layer: nn.Module, axis: int) -> None:
    found = weights(nn.Sequential(layer), "0")
    found = decode(encode(found), Weights)
    own = dict(layer.named_parameters(recurse=False))
    assert [each.name for each in found.parameters] == list(own)
    for each in found.parameters:
        values = own[each.name].detach()
        assert each.shape == tuple(values.shape) and np.array_equal(each.values, values.float().numpy())
        np.testing.assert_allclose(each.norms, by_hand(values, axis if values.ndim > 1 else 0), rtol=1e-6)
        assert each.statistics.mean == pytest.approx(float(values.double().mean()), abs=1e-6)
        assert each.statistics.max == float(values.max()) and len(each.statistics.channels["mean"]) == len(each.norms)
        assert each.output_axis == (axis if values.ndim > 1 else 0) and not each.frozen


def test_what_has_none_says_so_and_frozen_ones_too() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(HooksError, match=r"Layer '0' \(ReLU\) has no weights of its own\."):
        weights(net, "0")
    with pytest.raises(HooksError, match="The model"):
        weights(net, "")
    assert all(each.frozen for each in weights(net, "1").parameters)
    net = nn.Sequential(nn.Linear(2, 2, bias=False))
    net[0].weight.data[0, 0] = torch.nan
    (parameter,) = weights(net, "0").parameters
    assert parameter.statistics.nan == 1


def test_the_numbers_of_what_is_too_large_to_be_handed_on_are_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    net = nn.Sequential(nn.Linear(10, 10))
    weight, bias = weights(net, "0").parameters
    assert weight.values.size == 0 and weight.shape == (10, 10) and weight.statistics.count == 100
    np.testing.assert_allclose(weight.norms, by_hand(net[0].weight))
    assert tiles(weight) is None and bias.values.size == 10


def test_filters_of_three_inputs_are_drawn_in_their_colours() -> None:
    layer = nn.Conv2d(3, 40, 5)
    (weight, _) = weights(layer, "").parameters
    found = tiles(weight)
    assert found is not None and found.cells.shape == (40, 5, 5, 3) and "red, green and blue" in found.text
    image = np.asarray(Image.open(io.BytesIO(picture(found, scale_of(found)))))
    assert image.shape == (*found.size[::-1], 4) and found.columns == 16
    limit = float(layer.weight.detach().abs().max())
    drawn = image[12 : 12 + 5, 12 : 12 + 5]  # filter 34: the third of the third row
    oracle = np.rint(layer.weight[34].detach().permute(1, 2, 0).numpy() / limit * 127.5 + 127.5)
    assert np.abs(drawn[..., :3].astype(int) - oracle).max() <= 1 and (drawn[..., 3] == 255).all()
    assert image[5, 0, 3] == 0  # a gap


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (nn.Conv2d(8, 9, 3), (9, 3, 3), "9 of 9 filters, each the mean over its inputs"),
        (nn.Conv2d(8, 8, 3, groups=8), (8, 3, 3), "8 of 8 filters"),
        (nn.Conv1d(1, 4, 7), (4, 1, 7), "4 of 4 filters"),
        (nn.ConvTranspose2d(2, 6, 3), (6, 3, 3), "6 of 6 filters, each the mean over its inputs"),
        (nn.Conv2d(1, MOST_FILTERS + 5, 1), (MOST_FILTERS, 1, 1), f"{MOST_FILTERS} of {MOST_FILTERS + 5} filters"),
        (nn.Linear(7, 5), (1, 5, 7), "a row for each output, a column for each input"),
        (
            nn.Linear(MATRIX_PX * 2, 3),
            (1, 3, MATRIX_PX),
            f"a row for each output, a column for each input, reduced to 3 × {MATRIX_PX} means",
        ),
    ],
)
def test_what_a_cell_is_is_said(layer: nn.Module, shape: tuple[int, ...], text: str) -> None:
    found = tiles(weights(layer, "").parameters[0])
    assert found is not None and (found.cells.shape, found.text) == (shape, text)
    with Image.open(io.BytesIO(picture(found, scale_of(found)))) as image:
        assert image.size == found.size
    if isinstance(layer, nn.ConvTranspose2d):
        np.testing.assert_allclose(found.cells, layer.weight.detach().mean(0).numpy(), atol=1e-6)


def test_a_list_of_numbers_is_not_drawn_and_broken_values_are_seen() -> None:
    assert tiles(weights(nn.BatchNorm2d(3), "").parameters[0]) is None
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.data.fill_(torch.nan)
    found = tiles(weights(layer, "").parameters[0])
    assert found is not None and picture(found, scale_of(found))


def test_in_a_filter_in_colour_what_is_no_number_has_the_colour_that_it_has_everywhere() -> None:
    layer = nn.Conv2d(3, 1, 2)
    layer.weight.data.fill_(0.5)
    layer.weight.data[0, 1, 0, 0], layer.weight.data[0, 2, 1, 1] = torch.nan, torch.inf
    found = tiles(weights(layer, "").parameters[0])
    assert found is not None
    with Image.open(io.BytesIO(picture(found, scale_of(found)))) as image:
        colours = [[image.getpixel((x, y)) for x in range(2)] for y in range(2)]
    assert colours == [[(255, 0, 255, 255), (255, 255, 255, 255)], [(255, 255, 255, 255), (50, 255, 50, 255)]]


# --- on the page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with operators_folder(tmp_path_factory.mktemp("weights"), weights_net=NETS):
        with opened(
            tmp_path_factory.mktemp("page"), *(f"weights_net:{name}" for name in ("one", "two", "other", "broken"))
        ) as made:
            yield made


def rows_of(page: Page, shown: dict) -> list[dict[str, str]]:
    tree = str(shown["card-weights 0"]["tree"])
    address = tree.split("'href': '")[1].split("'")[0]
    return list(csv.DictReader(io.StringIO(page.client.get(address).get_data(as_text=True))))


def test_a_cards_weights_unfold_into_picture_histogram_norms_table_and_csv(page: Page) -> None:
    assert texts(page.shows(layers=["0"])["card-weights 0"]).endswith("Weights")  # folded
    shown = page.shows(layers=["0"], weights=True)
    assert "weights=1" in page.query
    conv = page.net("weights_net:one")[0]
    text = texts(shown["card-weights 0"])
    assert "weight, 6 × 3 × 5 × 5" in text and "6 of 6 filters" in text and "bias" in text and "B − A" not in text
    norms = array(shown["card-weights-norms 0"]["figure"]["data"][0]["y"])
    np.testing.assert_allclose(norms, by_hand(conv.weight), rtol=1e-5)
    assert shown["card-weights-histogram 0"]["figure"]["data"]
    rows = rows_of(page, shown)
    np.testing.assert_allclose([float(row["norm"]) for row in rows], by_hand(conv.weight))
    np.testing.assert_allclose([float(row["mean"]) for row in rows], conv.weight.detach().mean((1, 2, 3)), atol=1e-6)
    grid = str(shown["card-weights-table 0"]["children"])
    assert "norm" in grid and "rowData" in grid
    saved = page.client.get(shown["export-view"]["href"]).get_data(as_text=True)
    assert "weight, 6 × 3 × 5 × 5" in saved and "norm" in saved


def test_two_models_weights_stand_side_by_side_with_their_difference(page: Page) -> None:
    one, two = (page.net(f"weights_net:{name}")[0].weight.detach() for name in ("one", "two"))
    shown = page.shows(b=page.picture, model_b="weights_net:two", layers=["0"], weights=True)
    text = texts(shown["card-weights 0"])
    share = float((two - one).norm() / one.norm())
    assert f"‖B − A‖ is {format_share(share)} of ‖A‖" in text
    rows = rows_of(page, shown)
    np.testing.assert_allclose([float(row["A norm"]) for row in rows], by_hand(one))
    np.testing.assert_allclose([float(row["B norm"]) for row in rows], by_hand(two))
    np.testing.assert_allclose([float(row["norm of B - A"]) for row in rows], by_hand(two - one), rtol=1e-6)
    same = page.shows(b=page.picture, layers=["0"], weights=True)
    assert "B − A" not in texts(same["card-weights 0"])  # the same model: the same weights


def test_other_shapes_and_layers_without_weights_are_told(page: Page) -> None:
    shown = page.shows(b=page.picture, model_b="weights_net:other", layers=["6", "2"], weights=True)
    assert "A's and B's weights have different shapes" in texts(shown["card-weights 0"])
    assert len(rows_of(page, shown)) == 5  # the more of the two
    assert "Layer '2' (ReLU) has no weights of its own." in texts(shown["card-weights 1"])
    lists = page.shows(layers=["1"], weights=True)
    assert "a list of numbers" in texts(lists["card-weights 0"])


def test_a_norm_that_is_no_number_is_written_as_everywhere(page: Page) -> None:
    shown = page.shows(model="weights_net:broken", layers=["0"], weights=True)
    grid = shown["card-weights-table 0"]["children"]["props"]
    field = next(column["field"] for column in grid["columnDefs"] if column["headerName"] == "norm")
    assert [row[field] is None for row in grid["rowData"]] == [False, False, True, False, False, False]
    saved = page.client.get(shown["export-view"]["href"]).get_data(as_text=True)
    assert "<td>NaN</td>" in saved and "<td>nan</td>" not in saved
