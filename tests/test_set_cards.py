"""What a set says in the cards, in the tree and beside an enlarged channel: a channel that is dead, one that fires in a
single picture, and two that are equal are found where the page points.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_models import digits, file_of, write_module
from served import until
from set_desk import SetDesk, elements, text_of
from tempo import limit

import hookscope as hs
from hookscope.dashboard.asking.questions import ActivationOf
from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import View
from hookscope.dashboard.sets.layer_numbers import SET_METRICS, duplicates_in, spreads, survey_over
from hookscope.dashboard.sets.store import key_of
from hookscope.hooks.results.looks import Activation
from hookscope.hooks.results.sweeps import Firing, Sweep

COUNT, FEW = 130, 20
MODEL, SET = "digits", "digits"
DEAD, RARE, TWINS = 5, 7, (1, 4)  # channels of conv2, of conv2, and of conv1
PLANTED = """
    import time

    from digits_net import HOW, plain


    def planted():
        net = plain()
        net.conv2.weight.data[5], net.conv2.bias.data[5] = 0, -1.0
        net.conv2.bias.data[7] -= THRESHOLD
        net.conv1.weight.data[4], net.conv1.bias.data[4] = net.conv1.weight.data[1], net.conv1.bias.data[1]
        return net, HOW


    def slow():
        net, how = planted()
        inner = net.forward

        def forward(pictures):
            time.sleep(0.03 * len(pictures))
            return inner(pictures)

        net.forward = forward
        return net, how
"""


@dataclass
class Whole:
    """What the planted network gives for every picture at once, by torch alone: (picture, channel, row, column)."""

    values: dict[str, np.ndarray]

    def maxima(self, layer: str) -> np.ndarray:
        return self.values[layer].max((2, 3))

    def fired(self, layer: str) -> np.ndarray:
        return (self.values[layer] != 0).any((2, 3)).sum(0)


def outputs(net: torch.nn.Module, pictures: torch.Tensor) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    hooks = [
        module.register_forward_hook(
            lambda module, given, output, name=name: found.update({name: output.detach().numpy().copy()})
        )
        for name, module in net.named_modules()
        if name.startswith(("conv", "relu", "fc"))
    ]
    with torch.no_grad():
        net(pictures)
    for hook in hooks:
        hook.remove()
    return found


def plain_of(folder: Path) -> Callable[[], Any]:
    """What makes the trained network that the module in a folder has."""
    found: dict[str, Any] = {"__file__": str(folder / "digits_net.py")}
    exec((folder / "digits_net.py").read_text(), found)
    plain: Callable[[], Any] = found["plain"]
    return plain


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("digits")
    namespace = write_module(found)
    pictures, _ = digits()
    net = namespace["plain"]()
    net.conv1.weight.data[TWINS[1]], net.conv1.bias.data[TWINS[1]] = (
        net.conv1.weight.data[TWINS[0]],
        net.conv1.bias.data[TWINS[0]],
    )
    largest = np.sort(outputs(net, pictures[:COUNT])["conv2"][:, RARE].max((1, 2)))
    threshold = float(largest[-2] + largest[-1]) / 2
    text = PLANTED.replace("THRESHOLD", repr(threshold))
    (found / "planted_net.py").write_text("\n".join(line[4:] for line in text.splitlines()))
    for name, numbers in ((SET, range(COUNT)), ("few", range(COUNT, COUNT + FEW))):
        (found / name).mkdir()
        for number in numbers:
            file_of(pictures[number], found / name / f"{number:03}.png")
    return found


@pytest.fixture(scope="module")
def whole(folder: Path) -> Whole:
    planted: dict[str, Any] = {"plain": plain_of(folder), "HOW": {}}
    exec((folder / "planted_net.py").read_text().replace("from digits_net import HOW, plain", ""), planted)
    found = outputs(planted["planted"]()[0], digits()[0][:COUNT])
    return Whole({name: each for name, each in found.items() if each.ndim == 4})


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LocalEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        models = [ModelOptions("planted_net:planted", MODEL), ModelOptions("planted_net:slow", "slow")]
        found = LocalEngine(models, threads=1)
        for name in (MODEL, "slow"):
            found.open(name)
            until(lambda name=name: found.state(name).phase == "ready", limit(60.0), found.state(name).sentence)
        yield found
    found.close()


@pytest.fixture(scope="module")
def desk(engine: LocalEngine, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SetDesk]:
    found = SetDesk(engine, {SET: folder / SET, "few": folder / "few"}, tmp_path_factory.mktemp("desk"))
    for name in (SET, "few"):
        found.swept(name, MODEL)
    until(lambda: duplicates_in(found.sweeps, found.set(SET), MODEL) is not None, limit(30.0))
    yield found
    found.close()


@pytest.fixture(scope="module")
def found(desk: SetDesk) -> Sweep:
    sweep = desk.sweeps.found(desk.set(SET), MODEL)
    assert sweep is not None
    return sweep


def view(**more: Any) -> View:
    return View().but(**{"model": MODEL, "a": "sample-coffee", "set_a": key_of(SET), **more})


def numbers_of(desk: SetDesk, sweep: Sweep) -> np.ndarray:
    """Which digit each picture of the sweep is, as the files are named."""
    members = desk.set(SET).members
    return np.array([int(members[number].name.split(".")[0]) for number in sweep.pictures])


def chosen(node: Any) -> Any:
    return json.loads(node[1]["data-value"])


# --- the tree


def bars_of(page: dict[str, dict[str, Any]], desk: SetDesk) -> dict[str, float | None]:
    """The bars by layer, in shares of the longest."""
    info = desk.engine.info(MODEL)
    assert info is not None
    return dict(zip([node["name"] for node in tree_nodes(info.layers)], page[ids.TREE]["metric"], strict=True))


def test_the_tree_says_how_many_channels_are_dead_and_which_fire_seldom(desk: SetDesk, whole: Whole) -> None:
    page = desk.draw(view(metric="set-dead"))
    shares = {layer: float(np.mean(whole.fired(layer) == 0)) for layer in whole.values}
    assert shares["relu2"] == 1 / 16 and shares["conv2"] == 0
    most = max(*shares.values(), 0.1)
    bars = bars_of(page, desk)
    for layer, share in shares.items():
        assert bars[layer] == pytest.approx(share / most), layer
    text = text_of(page[ids.METRIC_TEXT]["tree"])
    assert text.startswith(f"over {SET}: bars from 0 to") and text.endswith(f"; {COUNT} pictures")
    assert "dead over the set digits: 6.2 %" in " ".join(page[ids.TREE]["metric_texts"])

    page = desk.draw(view(metric="set-seldom"))
    seldom = {each: (whole.fired(each) > 0) & (whole.fired(each) < 0.01 * COUNT) for each in whole.values}
    assert seldom["relu2"][RARE] and whole.fired("relu2")[RARE] == 1
    bars = bars_of(page, desk)
    for layer, each in seldom.items():
        assert bars[layer] == pytest.approx(each.mean() / max(0.1, *(other.mean() for other in seldom.values())))
    worst = [list(bars)[place] for place in page[ids.TREE]["worst"]]
    assert seldom[worst[0]].any()


def test_the_tree_says_how_much_channels_differ_between_pictures(desk: SetDesk, whole: Whole, found: Sweep) -> None:
    rows = {int(number): row for row, number in enumerate(numbers_of(desk, found))}
    order = [number for number, _ in sorted(rows.items(), key=lambda each: each[1])]
    told = spreads(found)
    for layer, values in whole.values.items():
        (part,) = [each for each in found.sample if each.layer == layer]
        drawn = [order[int(np.searchsorted(found.pictures, number))] for number in part.pictures]
        between = values[drawn].mean((2, 3), dtype=np.float64).std(0)
        magnitude = np.sqrt(np.mean(values.astype(np.float64) ** 2))
        assert told[layer, 0] == pytest.approx(np.median(between) / magnitude, rel=1e-3), layer
    page = desk.draw(view(metric="set-spread"))
    text = text_of(page[ids.METRIC_TEXT]["tree"])
    drawn_of = f"{len(part.pictures)} pictures drawn at random"
    assert "logarithmic" in text and text.endswith(drawn_of)


def test_the_tree_says_which_layers_have_channels_that_are_alike(desk: SetDesk, whole: Whole) -> None:
    told = duplicates_in(desk.sweeps, desk.set(SET), MODEL)
    assert isinstance(told, tuple)
    by_layer = {each.layer: each for each in told}
    assert by_layer["conv1"].groups == by_layer["relu1"].groups == (TWINS,)
    means = whole.values["relu1"].mean((2, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlated = np.abs(np.corrcoef(means.T)) > 0.999
    np.fill_diagonal(correlated, False)
    assert {tuple(pair) for pair in np.argwhere(correlated)} == {TWINS, TWINS[::-1]}
    page = desk.draw(view(metric="set-alike"))
    bars = bars_of(page, desk)
    assert bars["relu1"] == pytest.approx(1.0) and bars["fc"] == 0  # 2 of 8 are the most
    assert "25 %" in text_of(page[ids.METRIC_TEXT]["tree"])


def test_the_tree_says_how_far_two_sets_are_apart(desk: SetDesk) -> None:
    without = desk.draw(view(metric="set-gap"))
    assert without[ids.TREE]["metric"] is None
    assert text_of(without[ids.METRIC_TEXT]["tree"]).startswith("Choose a second set")
    both = view(metric="set-gap", set_b=key_of("few"))
    until(lambda: desk.draw(both)[ids.TREE]["metric"] is not None, limit(30.0))
    page = desk.draw(both)
    one, other = (desk.sweeps.found(desk.set(name), MODEL) for name in (SET, "few"))
    assert one is not None and other is not None
    gaps = {gap.layer: gap.effect for gap in hs.gap(one, other) if gap.call == 0}
    bars, most = bars_of(page, desk), max(gaps.values())
    for layer, effect in gaps.items():
        assert bars[layer] == pytest.approx(effect / max(most, 0.1))
    names = list(bars)
    leaves = [names[place] for place in page[ids.TREE]["worst"]]
    assert gaps[leaves[0]] == max(gaps.get(leaf, 0) for leaf in leaves) and page[ids.TREE]["alarms"] == 0


def test_what_is_missing_is_said_where_the_numbers_would_be(desk: SetDesk) -> None:
    for metric in SET_METRICS:
        page = desk.draw(view(set_a="", metric=metric))
        assert page[ids.TREE]["metric"] is None
        tree = page[ids.METRIC_TEXT]["tree"]
        assert text_of(tree) == "Choose a set of pictures first: in Pictures"
        assert [chosen(node) for node in elements(tree, **{"data-do": "set"})] == [{"tab": "pictures"}]
        page = desk.draw(view(model="slow", metric=metric))
        assert page[ids.TREE]["metric"] is None
        tree = page[ids.METRIC_TEXT]["tree"]
        assert text_of(tree) == "digits has not been looked through. Look through it"
        (button,) = elements(tree, **{"data-do": "sweep"})
        assert chosen(button) == {"what": "start", "set": key_of(SET), "model": "slow"}
    page = desk.draw(view(set_a=key_of("few"), metric="set-seldom"))
    assert page[ids.TREE]["metric"] is None and "it takes more than 100" in text_of(page[ids.METRIC_TEXT]["tree"])
    gone = desk.draw(view(set_a="set-0123", metric="set-dead"))
    assert gone[ids.TREE]["metric"] is None and "not known here" in text_of(gone[ids.METRIC_TEXT]["tree"])


def test_what_returned_the_same_has_the_same_number() -> None:
    sweep = Sweep(np.arange(3), same=(("block", 0, "block.act", 0), ("net", 0, "block", 0)))
    told = survey_over(SET_METRICS["set-dead"], sweep, (Firing("block.act", 0, 8, 2, 0, True),))
    assert {call.layer: call["set-dead"] for call in told.calls} == {"block.act": 0.25, "block": 0.25, "net": 0.25}


# --- the cards


def test_without_a_set_nothing_is_added(desk: SetDesk) -> None:
    page = desk.draw(view(set_a="", layers=["relu2"], detail="relu2", channel=3))
    for region in ("card-set 0", "card-flip 0", ids.detail("set")):
        assert page[region] == {"tree": [], "hidden": True}


def test_a_card_names_the_dead_the_rare_and_the_equal_channels(desk: SetDesk, whole: Whole) -> None:
    page = desk.draw(view(layers=["relu2", "relu1", "conv2"]))
    tree = page["card-set 0"]["tree"]
    text = text_of(tree)
    assert f"over the set {SET} ({COUNT} pictures)" in text
    assert f"1 of 16 channels never fired: {DEAD}" in text
    assert f"1 fired in under 1 %: channel {RARE} (1 of {COUNT})" in text
    values = whole.values["relu2"].astype(np.float64)
    for name, value in (("mean", values.mean()), ("std", values.std()), ("min", 0), ("max", values.max())):
        assert f"{name} {value:.4g}" in text, name
    enlarge = [chosen(node) for node in elements(tree, className="name-link")]
    assert enlarge == [{"detail": "relu2", "channel": DEAD}, {"detail": "relu2", "channel": RARE}]
    alike = page["card-set 1"]["tree"]
    assert "Channels 1 and 4 are alike in every picture." in text_of(alike) and "All 8 channels fired" in text_of(alike)
    assert [chosen(node)["channel"] for node in elements(alike, className="name-link")] == list(TWINS)
    linear = text_of(page["card-set 2"]["tree"])
    assert "fired" not in linear and "0 in every picture" not in linear  # a convolution's channels are never 0


def test_a_card_says_what_the_set_does_without_a_picture_too(desk: SetDesk) -> None:
    page = desk.draw(view(a="", layers=["relu2"]))
    assert "Choose a picture above" in text_of(page["card-labels 0"]["tree"])
    assert f"1 of 16 channels never fired: {DEAD}" in text_of(page["card-set 0"]["tree"])


def test_a_card_of_a_set_that_was_not_looked_through_offers_it(desk: SetDesk) -> None:
    page = desk.draw(view(model="slow", layers=["relu2"]))
    assert text_of(page["card-set 0"]["tree"]) == "digits has not been looked through. Look through it"
    assert page["card-flip 0"] == {"tree": [], "hidden": True}


def test_while_a_set_is_looked_through_the_numbers_grow(
    engine: LocalEngine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookscope.dashboard.sets.sweeps.PART_SECONDS", (1,))
    desk = SetDesk(engine, {SET: folder / SET}, tmp_path)
    pictures = desk.set(SET)
    desk.sweeps.start(pictures, "slow")
    shown = view(model="slow", metric="set-dead", layers=["relu2"])
    until(lambda: "so far" in text_of(desk.draw(shown).get("card-set 0", {"tree": []})["tree"]), limit(30.0))
    seen = []
    while desk.sweeps.progress(pictures, "slow").phase == "running":
        page = desk.draw(shown)
        line = page[ids.METRIC_TEXT]["tree"]
        if desk.sweeps.progress(pictures, "slow").phase == "running":
            assert elements(line, **{"data-again": "1"})  # the page asks again
            words = text_of(line).removesuffix(" so far").split("; ")[-1].split()
            seen.append(int(words[0]))
    assert seen == sorted(seen) and len(set(seen)) > 3 and 0 < seen[0] < seen[-1] <= COUNT
    page = desk.draw(shown)
    assert text_of(page[ids.METRIC_TEXT]["tree"]).endswith(f"{COUNT} pictures")
    assert not elements(page[ids.METRIC_TEXT]["tree"], **{"data-again": "1"})
    desk.close()


# --- the flip side, and the enlarged channel


def names_of(nodes: list[Any]) -> list[int]:
    """Which digits some crops are of, by the files' names; -1 of none."""
    found = []
    for node in nodes:
        image = next((each for each in elements([node]) if each[0] == "img"), None)
        found.append(-1 if image is None else int(image[1]["alt"].split(".")[0]))
    return found


def test_the_wall_turns_to_what_its_channels_look_for_in_its_own_order(desk: SetDesk, whole: Whole) -> None:
    shown = view(layers=["relu2"])
    (head,) = elements(desk.draw(shown)["card-flip 0"]["tree"], className="flip-head")
    maps, looks = elements([head], **{"data-do": "set"})
    assert maps[1]["aria-pressed"] == "true" and chosen(looks) == {"looks_for": True, "from_cell": 0}
    page = desk.draw(shown.but(looks_for=True, rank="strongest"))
    tree = page["card-flip 0"]["tree"]
    cells = elements(tree, className="crop-cell")
    order = [chosen(cell)["channel"] for cell in cells]
    scene = desk.scene(shown)
    values = scene.kept(scene.of_layer(ActivationOf, "relu2")["a"], Activation).values
    assert order == list(np.argsort(-np.abs(values).max((1, 2)), kind="stable"))
    maxima = whole.maxima("relu2")
    for cell, channel in zip(cells, order, strict=True):
        if channel == DEAD:
            assert "never fired" in text_of([cell]) and names_of([cell]) == [-1]
            continue
        (number,) = names_of([cell])
        assert maxima[number, channel] == pytest.approx(maxima[:, channel].max(), rel=1e-5)
        assert chosen(cell) == {"detail": "relu2", "channel": channel}
    assert "5 × 5 pixels" in text_of(tree)


def test_an_enlarged_channel_has_its_nine_strongest_pictures_beside_it(desk: SetDesk, whole: Whole) -> None:
    shown = view(layers=["relu2"], detail="relu2", channel=3)
    page = desk.draw(shown)
    region = page[ids.detail("set")]
    cells = elements(region["tree"], className="crop-cell")
    maxima = whole.maxima("relu2")[:, 3]
    numbers = names_of(cells)
    assert len(set(numbers)) == 9
    np.testing.assert_allclose(maxima[numbers], np.sort(maxima)[::-1][:9], rtol=1e-5)
    text = text_of(region["tree"])
    assert f"fired in {whole.fired('relu2')[3]} of {COUNT}" in text
    values = whole.values["relu2"][:, 3].astype(np.float64)
    assert f"mean {values.mean():.4g}" in text and f"max {values.max():.4g}" in text
    asked = chosen(cells[0])
    assert asked["set"] == key_of(SET) and asked["stay"] and asked["model"] == MODEL
    assert len(cells[0][1]["data-around"].split(",")) == 4

    by_mean = elements(desk.draw(shown.but(crops="mean"))[ids.detail("set")]["tree"], className="crop-cell")
    means = whole.values["relu2"].mean((2, 3))[:, 3]
    np.testing.assert_allclose(means[names_of(by_mean)], np.sort(means)[::-1][:9], rtol=1e-5)
    drawn = elements(desk.draw(shown.but(crops="median"))[ids.detail("set")]["tree"], className="crop-cell")
    assert len(drawn) == 3 and all(maxima[number] < maxima.max() for number in names_of(drawn))
    dead = desk.draw(shown.but(channel=DEAD))[ids.detail("set")]["tree"]
    assert "never fired" in text_of(dead) and not elements(dead, className="crop-cell")
    assert desk.draw(shown.but(channel=-1))[ids.detail("set")]["hidden"]  # the mean of all channels


def test_the_crop_is_where_the_value_lies(desk: SetDesk, whole: Whole) -> None:
    """The part of the picture that is framed around the crop holds every pixel that the value depends on."""
    page = desk.draw(view(layers=["relu2"], detail="relu2", channel=3))
    for cell in elements(page[ids.detail("set")]["tree"], className="crop-cell"):
        (number,) = names_of([cell])
        row, column = np.unravel_index(whole.values["relu2"][number, 3].argmax(), whole.values["relu2"].shape[2:])
        left, top, right, bottom = (float(each) / 100 * 16 for each in cell[1]["data-around"].split(","))
        # conv1 3 x 3, conv2 3 x 3 with stride 2: 5 x 5 pixels around twice the place, within 16 x 16
        expected = [max(2 * each - 2, 0) for each in (column, row)] + [min(2 * each + 3, 16) for each in (column, row)]
        assert [left, top, right, bottom] == pytest.approx(expected, abs=0.02)
