"""A wall ranked by what its channels do to the explained number: order, bars, table, CSV, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from own_page import NET, Page, array, opened, operators_folder, texts

from hookscope.dashboard.asking.edits import read_edits
from hookscope.dashboard.asking.questions import EffectsOf, PredictionOf, SharesOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.hooks.results.effects import ChannelShares, Effects
from hookscope.hooks.results.looks import Prediction
from hookscope.hooks.results.targets import Class

MODEL, CUT = "effective:make", "effective:cut"
WITH_CUT = f"""{NET}
    class Detach(nn.Module):
        def forward(self, maps):
            return maps.detach()

    def cut():
        net, options = make()
        return nn.Sequential(net[0], Detach(), *net[1:]).eval(), options
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("effects")
    with operators_folder(folder, effective=WITH_CUT), opened(folder, MODEL, CUT) as made:
        yield made


@pytest.fixture(scope="module")
def shares(page: Page) -> np.ndarray:
    """By hand: after the ReLU a channel is worth its mean times its weight in the class's row."""
    net = page.net(MODEL)
    with torch.no_grad():
        means = net[1](net[0](page.tensor)).mean((2, 3))[0]
        return (means * net[4].weight[int(net(page.tensor).argmax())]).numpy()


def traces(shown: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [trace for trace in shown["card-wall 0"]["figure"]["data"] if trace["type"] == kind]


def order_of(shown: dict[str, Any]) -> list[int]:
    """The channels as the wall shows them."""
    cells = array(traces(shown, "heatmap")[0]["z"]).ravel()
    return [int(cell) for cell in cells if np.isfinite(cell)]


def test_for_the_class_the_largest_share_comes_first(page: Page, shares: np.ndarray) -> None:
    shown = page.shows(layers=["1"], rank="class", table=True)
    assert order_of(shown) == np.argsort(-shares, kind="stable").tolist()
    said = texts(shown["card-labels 0"]["tree"])
    assert "share of logit" in said and "gradient × activation" in said
    assert len(traces(shown, "scatter")) == 1 + bool((shares > 0).any()) + bool((shares < 0).any())
    assert "for the class" in traces(shown, "heatmap")[0]["hovertemplate"]
    grid = shown["card-table 0"]["children"][0]["props"]
    assert [row["channel"] for row in grid["rowData"]] == order_of(shown)
    found = {row["channel"]: row["A_share"] for row in grid["rowData"]}
    np.testing.assert_allclose([found[n] for n in range(4)], shares, rtol=1e-4)
    assert "for the class" in [column["headerName"] for column in grid["columnDefs"]]


def test_the_measured_effect_fills_and_says_how_far_the_estimate_can_be_trusted(page: Page, shares: np.ndarray) -> None:
    shown = page.shows(layers=["1"], rank="effect", table=True)
    assert order_of(shown) == np.argsort(-np.abs(shares), kind="stable").tolist()
    said = texts(shown["card-labels 0"]["tree"])
    assert "4 of 4 measured in" in said and "Taylor's estimate agrees: Spearman 1.00" in said
    assert f"the 4 strongest at once: {-shares.sum():+.3g}" in said
    changes = next(json.loads(each) for each in _values(shown["card-labels 0"]["tree"]) if "edits_b" in each)
    assert changes["b"] == page.picture and sorted(changes["edits_b"].split("~")[1::3]) == ["0", "1", "2", "3"]
    net, digest = page.net(MODEL), page.inputs.get(page.picture).digest
    without = page.answer(Unit(Side(MODEL, digest, edits=read_edits(changes["edits_b"])), PredictionOf()), Prediction)
    with torch.no_grad():
        before = net(page.tensor)[0].numpy()
    assert without.scores is not None
    fallen = without.scores.logits[0] - before
    assert fallen[before.argmax()] == pytest.approx(-shares.sum(), rel=1e-4)
    found = {row["channel"]: row for row in shown["card-table 0"]["children"][0]["props"]["rowData"]}
    np.testing.assert_allclose([found[n]["A_effect"] for n in range(4)], -shares, rtol=1e-4)
    address = next(address for address in _addresses(shown["card-files 0"]["tree"]) if _csv(page, address))
    head, *rows = _csv(page, address).splitlines()
    assert "A effect,A estimated effect" in head and len(rows) == 4


def test_against_another_class_it_says_that_it_is_the_difference(page: Page) -> None:
    """By hand: the share of the difference of two rows of the last weights."""
    net = page.net(MODEL)
    with torch.no_grad():
        first, second = net(page.tensor)[0].argsort(descending=True)[:2].tolist()
        means = net[1](net[0](page.tensor)).mean((2, 3))[0]
        shares = (means * (net[4].weight[first] - net[4].weight[second])).numpy()
    for rank in ("class", "effect"):
        shown = page.shows(layers=["1"], rank=rank, table=True, against="next")
        said = str(shown["card-labels 0"]["tree"])
        assert f"logit difference “class {first} against class {second}”" in said
        rows = {row["channel"]: row for row in shown["card-table 0"]["children"][0]["props"]["rowData"]}
        column, sign = ("A_share", 1) if rank == "class" else ("A_effect", -1)
        np.testing.assert_allclose([rows[n][column] for n in range(4)], sign * shares, rtol=1e-4, atol=1e-6)


def test_the_enlarged_channel_has_the_numbers_of_the_rank(page: Page, shares: np.ndarray) -> None:
    chosen = {"layers": ["1"], "detail": "1", "channel": 2}
    for rank, names in (("class", ["for the class"]), ("effect", ["muted", "Taylor’s estimate"])):
        said = texts(page.shows(**chosen, rank=rank)["detail-told"]["tree"])
        assert all(name in said for name in names)
        number = shares[2] if rank == "class" else -shares[2]
        assert f"{number:+.4g}" in said
    assert not texts(page.shows(**chosen, rank="strongest")["detail-told"]["tree"]).strip()
    assert not texts(page.shows(**chosen | {"channel": -1}, rank="effect")["detail-told"]["tree"]).strip()


def _values(tree: Any) -> list[str]:
    """What each button of a tree of elements is about."""
    if not isinstance(tree, list):
        return []
    own = [each["data-value"] for each in tree if isinstance(each, dict) and "data-value" in each]
    return own + [found for each in tree for found in _values(each)]


def _addresses(tree: Any) -> list[str]:
    return [node[1]["href"] for node in tree if node[0] == "a"]


def _csv(page: Page, address: str) -> str:
    answer = page.client.get(address)
    return (
        str(answer.get_data(as_text=True)) if "channels.csv" in str(answer.headers.get("Content-Disposition")) else ""
    )


def test_what_the_engine_answers_is_kept_under_the_target(page: Page, shares: np.ndarray) -> None:
    digest = page.inputs.get(page.picture).digest
    own, other = (Unit(Side(MODEL, digest), EffectsOf("1", 0, Class(n))) for n in (0, 1))
    assert own.key("f") != other.key("f")
    found = page.answer(own, Effects)
    assert found.complete and found.target == 0 and found.together is not None
    told = page.answer(Unit(Side(MODEL, digest), SharesOf("1", 0, Class(0))), ChannelShares)
    np.testing.assert_allclose(told.values, -found.measured, atol=1e-5)


def test_without_a_gradient_a_wall_says_why_in_the_plain_order_and_effects_are_measured_all_the_same(
    page: Page,
) -> None:
    shown = page.shows(model=CUT, layers=["0"], rank="class")
    assert order_of(shown) == [0, 1, 2, 3] and not traces(shown, "scatter")
    said = texts(shown["card-labels 0"]["tree"])
    assert "No such order:" in said and "'0' has no gradient for what is explained" in said
    said = texts(page.shows(model=CUT, layers=["0"], rank="effect")["card-labels 0"]["tree"])
    assert "4 of 4 measured" in said and "Spearman" not in said and "has no gradient" in said


def test_two_layers_at_once_and_two_sides(page: Page) -> None:
    shown = page.shows(layers=["0", "1"], rank="effect", b=page.picture, prepare_b="norm-none")
    for card in (0, 1):
        said = texts(shown[f"card-labels {card}"]["tree"])
        assert said.count("4 of 4 measured") == 2, said


def test_other_ranks_ask_for_no_gradient_and_draw_no_bars(page: Page) -> None:
    shown = page.shows(layers=["1"], rank="strongest")
    assert not traces(shown, "scatter") and "share" not in texts(shown["card-labels 0"]["tree"])
