"""The tab "Depth" over a whole application: where A and B part, in words, links and numbers, and what comes back."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from inline_app import until
from own_page import Page, array, opened, operators_folder, texts
from PIL import Image
from scipy.stats import ks_2samp
from torch import nn

import hookscope as hs
from hookscope.dashboard.asking.edits import read_edits
from hookscope.dashboard.asking.questions import CalibrationOf, PartingOf, RestoredOf, RestoredPartsOf, Unit
from hookscope.dashboard.asking.sides import Preparation, Side
from hookscope.dashboard.components.markup import to_markup
from hookscope.dashboard.drawing.depth_figures import parting_figure, restored_figure
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels import apart, back
from hookscope.hooks.causes.parting import parting, parting_calibration
from hookscope.hooks.causes.restoring import restore
from hookscope.hooks.results.parting import Calibration, PartedCall, Parting, along_the_depth, calibrated, first_parting
from hookscope.hooks.results.restoring import Restored, RestoredLayer, RestoredParts
from hookscope.hooks.results.targets import Class

NET = """
    import secrets
    import time

    import torch
    from torch import nn

    def make(noise=0.0):
        own = torch.Generator().manual_seed(3)
        parts = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        net = nn.Sequential(*parts, nn.Linear(6, 4))
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own))
            net[2].weight += noise
        return net.eval(), {"input_size": 12, "resize": 12, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def rounded():
        return make(0.01)

    def another():
        parts = {"stem": nn.Conv2d(3, 4, 3), "act": nn.ReLU(), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
        net = nn.Sequential()
        for name, part in parts.items():
            net.add_module(name, part)
        with torch.no_grad():
            net.stem.weight.fill_(0.1)
            net.stem.bias.fill_(0.1)
        return net.eval(), make()[1]

    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.15)  # each layer that is measured takes as long, and the page is told in between
            return x + 0

    def slow():
        net, how = make()
        return nn.Sequential(*net, Slow()).eval(), how

    def restless():
        net, prepared = make()
        with torch.no_grad():
            net[0].weight += secrets.randbelow(10**6) / 10**6  # torch's own state is put back after a look
        return net, prepared
"""
MODELS = ("depth_net:make", "depth_net:rounded", "depth_net:another", "depth_net:restless", "depth_net:slow")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("depth")
    with operators_folder(folder, depth_net=NET), opened(folder, *MODELS) as made:
        pixels = np.random.default_rng(1).integers(0, 90, (12, 12, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        made.other = made.inputs.receive(io.BytesIO(buffer.getvalue()), None, "dark.png").key  # type: ignore[attr-defined]
        yield made


def side(page: Page, which: str = "a", model: str = MODELS[0], **more: Any) -> Side:
    key = page.picture if which == "a" else page.other  # type: ignore[attr-defined]
    found = page.inputs.get(key)
    assert found is not None
    return Side(model, found.digest, **more)


def links(tree: Any) -> list[tuple[str, str]]:
    """What each button of a tree of elements does, and on which value."""
    if isinstance(tree, dict):
        return links(list(tree.values()))
    if not isinstance(tree, list):
        return []
    own = [(each["data-do"], each["data-value"]) for each in tree if isinstance(each, dict) and "data-do" in each]
    return own + [found for each in tree for found in links(each)]


def test_what_comes_back_far_outside_is_cut_at_the_edge_and_told() -> None:
    layers = [RestoredLayer(str(number), 0, whole=whole) for number, whole in enumerate((0.5, -7.0, 3.0))]
    drawn = restored_figure(layers)
    assert array(drawn.data[0].y).tolist() == [0.5, -1.0, 2.0] and "-700.0%" in drawn.data[2].text[1]
    assert "cut at the edge" in drawn.layout.annotations[0].text
    assert not restored_figure(layers[:1]).layout.annotations


# --- the engine


def test_the_engine_compares_as_the_library_does(page: Page) -> None:
    net = page.net(MODELS[0])
    bgr = Preparation(channels="bgr")
    found = page.answer(Unit(side(page), PartingOf(side(page, preparation=bgr))), Parting)
    oracle = parting(net, page.tensor, page.tensor.flip(1))
    assert [each.layer for each in found.calls] == [each.layer for each in oracle.calls]
    np.testing.assert_allclose([e.distance for e in found.calls], [e.distance for e in oracle.calls], rtol=1e-5)
    assert found.models == 1 and first_parting(found).call is not None


def outputs(page: Page, text: str) -> dict[str, torch.Tensor]:
    """The oracle: every layer's output of the network run here, under a side's edits."""
    net = page.net(MODELS[0])
    with hs.edit(net, read_edits(text)), hs.capture(net, ["[0-9]"]) as seen, torch.no_grad():
        net(page.tensor)
    return {name: seen[name].value.double() for name in map(str, range(7))}


@pytest.mark.parametrize(("of_a", "of_b"), [("", "2~1~0.5"), ("0~0~0", "0~2~2"), ("2~~1.5", "")])
def test_each_side_is_compared_under_its_own_edits(page: Page, of_a: str, of_b: str) -> None:
    one, other = (side(page, edits=read_edits(text)) for text in (of_a, of_b))
    found = page.answer(Unit(one, PartingOf(other)), Parting)
    a, b = outputs(page, of_a), outputs(page, of_b)
    for each in found.calls:
        if each.layer:
            x, y = a[each.layer], b[each.layer]
            assert each.distance == pytest.approx(float(2 * (x - y).norm() / (x.norm() + y.norm())), abs=1e-6)
    assert any(each.distance > 0.01 for each in found.calls)
    back = page.answer(Unit(one, RestoredOf(other, Class(1), Class(2))), Restored)
    restored = {each.layer: each.whole for each in back.layers}
    if not of_a:  # what comes before the edit is the same in both, and from it on everything comes back
        assert restored["0"] == pytest.approx(0, abs=1e-5) and restored["2"] == pytest.approx(1, abs=1e-5)
    assert restored["6"] == pytest.approx(1, abs=1e-5)


def test_two_models_are_compared_in_one_worker(page: Page) -> None:
    found = page.answer(Unit(side(page), PartingOf(side(page, model=MODELS[1]))), Parting)
    first = first_parting(found)
    assert found.models == 2 and first.call is not None and first.call.layer == "2"
    assert first.before is not None and first.before.distance == 0


def test_a_question_of_two_sides_is_kept_by_both_models_pictures_and_preparations(page: Page) -> None:
    a, b = side(page), side(page, "b")
    bgr = replace(b, preparation=Preparation(channels="bgr"))
    units = [Unit(a, PartingOf(b)), Unit(b, PartingOf(a)), Unit(a, PartingOf(bgr)), Unit(a, PartingOf(a))]
    units += [Unit(a, RestoredOf(b)), Unit(a, RestoredOf(b, Class(1))), Unit(a, RestoredPartsOf(b, "0"))]
    assert len({unit.key("f") for unit in units}) == len(units)
    two = Unit(a, PartingOf(replace(b, model=MODELS[1])))
    assert len({two.key("f", "g"), two.key("f", "h"), two.key("g", "h"), units[0].key("f")}) == 4
    renamed = Unit(replace(a, model="x"), PartingOf(replace(b, model="y")))
    assert renamed.key("f", "g") == two.key("f", "g")  # by what was loaded, not by what it is called
    for unit in (*units, two, Unit(a, CalibrationOf(("x", "y"), "z"))):
        assert protocol.decode(protocol.encode(protocol.Run(1, (unit,)))) == protocol.Run(1, (unit,))


def test_what_comes_back_is_that_of_the_library_and_comes_in_steps(page: Page) -> None:
    net, other = page.net(MODELS[0]), side(page, preparation=Preparation(values="unit"))
    found = page.answer(Unit(side(page), RestoredOf(other, Class(0), Class(1))), Restored)
    *_, oracle = restore(net, page.tensor, page.tensor / 2 + 0.5, target=0, target_b=1)
    assert [each.layer for each in found.layers] == [each.layer for each in oracle.layers]
    np.testing.assert_allclose([e.whole for e in found.layers], [e.whole for e in oracle.layers], atol=1e-4)
    parts = page.answer(Unit(side(page), RestoredPartsOf(other, "2", "channels", Class(0), Class(1))), RestoredParts)
    assert parts.exact.shape == (6,) and np.isfinite(parts.exact).all()


def test_the_calibration_is_of_the_photographs_among_the_samples(page: Page) -> None:
    keys, files = page.inputs.photographs()
    assert len(keys) >= 16 and "sample-coffee" in keys and not any("face" in key or "cup" in key for key in keys)
    few = keys[:3]
    found = page.answer(Unit(Side(MODELS[0], few[0]), CalibrationOf(few, files)), Calibration)
    assert (found.pairs, found.total) == (3, 3) and found.by_place["0", 0] > 0


def test_a_calibration_goes_on_where_somebody_stopped_it(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, files = page.inputs.photographs()
    few = keys[3:8]
    unit = Unit(Side(MODELS[0], few[0]), CalibrationOf(few, files))
    made, reached, go = list[int](), threading.Event(), threading.Event()
    of_pair, real = 2 * 2, nn.Conv2d._conv_forward  # two sides, two convolutions

    def counted(self: nn.Conv2d, *given: Any) -> torch.Tensor:
        made.append(1)
        if len(made) == 2 * of_pair + 1:
            reached.set()
            assert go.wait(60)
        return real(self, *given)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", counted)
    page.engine.submit("stopped", [unit], page.inputs.pixels)
    assert reached.wait(60)
    page.engine.cancel("stopped")
    time.sleep(0.5)  # until the worker has been told; later it would only have less left to do
    go.set()
    until(lambda: page.engine.state(MODELS[0]).phase != "computing")
    begun, pairs = len(made), len(made) // of_pair
    assert 2 <= pairs < 5
    found = page.answer(unit, Calibration)
    assert len(made) - begun == (5 - pairs) * of_pair and (found.pairs, found.total) == (5, 5)
    fresh = page.answer(Unit(unit.side, CalibrationOf(few, f"{files}, as another question")), Calibration)
    assert found.by_place == fresh.by_place


# --- the page


def test_the_sentence_names_the_layer_and_its_channels_as_links(page: Page) -> None:
    shown = page.shows(b=page.other, tab="depth", depth="apart")  # type: ignore[attr-defined]
    said = texts(shown["gradients-text"])
    assert "1 is any two pictures" in said and "18 pairs" in said
    found = links(shown["gradients-text"]["tree"])
    layers = [value for action, value in found if action == "layer"]
    chosen = [json.loads(value) for action, value in found if action == "set"]
    assert layers and all({"layers", "detail", "channel", "tab"} == each.keys() for each in chosen)
    figure = shown["gradients"]["figure"]
    assert figure["layout"]["meta"]["keys"] == ["0", "1", "2", "3", "4", "5", "6"]
    assert array(figure["data"][0]["y"]).shape == (7,)
    href = re.search(r'"href": "([^"]+)"', json.dumps(shown["gradients-text"]))
    assert href is not None
    lines = page.client.get(href[1]).get_data(as_text=True).splitlines()
    assert lines[0].startswith("layer,call,relative L2,calibrated,cosine distance,SQNR dB") and len(lines) >= 8


def test_two_models_part_at_the_first_layer_beyond_tolerance(page: Page) -> None:
    shown = page.shows(b=page.picture, model_b=MODELS[1], tab="depth", depth="apart")
    said = texts(shown["gradients-text"])
    assert "Within tolerance up to" in said and "two models" in said
    assert [value for action, value in links(shown["gradients-text"]["tree"]) if action == "layer"] == ["1", "2"]


def test_what_comes_back_of_one_model_in_another_is_asked_in_one_worker(page: Page) -> None:
    net, other = (page.net(name) for name in MODELS[:2])
    unit = Unit(side(page), RestoredOf(side(page, "b", MODELS[1]), Class(0), Class(1)))
    found = page.answer(unit, Restored)
    dark = page.inputs.get(page.other)  # type: ignore[attr-defined]
    assert dark is not None and found.layers
    b = torch.from_numpy(np.random.default_rng(1).integers(0, 90, (12, 12, 3), np.uint8)).permute(2, 0, 1)[None]
    b = b.float() / 127.5 - 1
    with torch.no_grad():
        given = other[3:](net[:3](page.tensor))[0]  # A's layer "2", and what follows of B's model
        of_a, of_b = net(page.tensor)[0], other(b)[0]
    m = [float(each[0] - each[1]) for each in (given, of_a, of_b)]
    whole = next(each.whole for each in found.layers if each.layer == "2")
    assert whole == pytest.approx((m[0] - m[2]) / (m[1] - m[2]), abs=1e-4)


def test_models_of_different_architectures_get_a_sentence_and_no_number(page: Page) -> None:
    shown = page.shows(b=page.picture, model_b=MODELS[2], tab="depth", depth="apart")
    assert "not of one architecture" in texts(shown["gradients-text"]) and "figure" not in shown["gradients"]
    shown = page.shows(b=page.picture, model_b=MODELS[2], tab="depth", depth="back")
    assert "not of one architecture" in texts(shown["gradients-text"])


def test_a_model_that_is_another_one_each_time_is_not_compared(page: Page) -> None:
    shown = page.shows(b=page.picture, model_b=MODELS[3], tab="depth", depth="apart")
    assert "not the same when it is loaded once more" in texts(shown["gradients-text"])


def test_without_b_it_says_what_it_would_show(page: Page) -> None:
    for depth in ("apart", "back"):
        shown = page.shows(tab="depth", depth=depth)
        assert "Choose a second picture" in texts(shown["gradients-text"])
    shown = page.shows(metric="apart")
    assert "choose a second picture, B, first" in texts(shown["metric-text"]) and shown["tree"]["metric"] is None


def test_the_tree_is_coloured_by_the_same_number(page: Page) -> None:
    shown = page.shows(b=page.other, metric="apart")  # type: ignore[attr-defined]
    bars = shown["tree"]["metric"]
    assert len(bars) == 8 and all(0 <= bar <= 1 for bar in bars if bar is not None)
    assert "1 is any two pictures" in texts(shown["metric-text"])


def test_the_chosen_layers_channels_are_ranked_by_their_distributions(page: Page) -> None:
    shown = page.shows(b=page.other, tab="depth", depth="apart", layers=["2"])  # type: ignore[attr-defined]
    said = texts(shown["depth-channels"])
    assert "Distributions of" in said and "Wasserstein" in said
    rows = [json.loads(value) for action, value in links(shown["depth-channels"]["tree"]) if action == "set"]
    assert sorted(row["channel"] for row in rows) == list(range(6)) and {row["detail"] for row in rows} == {"2"}


def test_what_comes_back_is_drawn_for_layers_channels_and_places(page: Page) -> None:
    chosen = {"b": page.other, "tab": "depth", "depth": "back", "layers": ["2"]}  # type: ignore[attr-defined]
    shown = page.shows(**chosen, back_by="channels")
    said = texts(shown["gradients-text"])
    assert "A restored in B" in said and "All paths pass through" in said and "against" in said
    np.testing.assert_allclose(array(shown["gradients"]["figure"]["data"][0]["y"]), 1, atol=1e-4)
    assert "6 of 6 channels measured" in texts(shown["depth-channels"])
    shown = page.shows(**chosen, back_by="positions", back_into="a")
    assert "B restored in A" in texts(shown["gradients-text"])
    assert "49 of 49 places measured." in texts(shown["depth-channels"])
    pictures = [node[1]["src"] for node in walk(shown["depth-channels"]["tree"]) if node[0] == "img"]
    assert [page.client.get(address).status_code for address in pictures] == [200]  # what lies below the map


def walk(tree: Any) -> Iterator[list[Any]]:
    """Every element of a tree."""
    for node in tree if isinstance(tree, list) else []:
        if isinstance(node, list) and len(node) == 3:
            yield node
            yield from walk(node[2])


def test_of_many_channels_it_says_which_are_measured_and_lists_those_first() -> None:
    exact, estimate = np.full(100, np.nan), np.arange(100) / 100
    exact[[7, 90]] = 0.01, -0.4
    found = RestoredParts("2", 0, "channels", estimate, exact, 2, 2)
    assert back._how_far(found) == "2 of 2 channels measured, those of 100 with the largest estimates."
    rows = [[cell.children for cell in row.children] for row in back._table("2", found).children[1].children]
    assert [row[0].children for row in rows] == ["90", "7", *map(str, range(99, 90, -1)), "89"]
    assert [row[1] for row in rows[:3]] == ["-40.0%", "1.0%", "not measured"]
    assert "…" in str(back._table("2", replace(found, total=3)))


def test_layers_that_are_not_measured_yet_are_not_bridged_by_the_line() -> None:
    layers = [RestoredLayer(name, 0, whole=0.5, strongest=0.25) for name in "ab"]
    for last, bridged in ((RestoredLayer("c", 0), False), (RestoredLayer("c", 0, reason="A is smaller."), True)):
        assert restored_figure([*layers, last]).data[1].connectgaps is bridged


def test_while_the_other_model_loads_or_has_failed_it_says_so(page: Page) -> None:
    plain = page.engine.state
    for name, phase, said in (
        ("slow:make", "loading", "B's model, slow:make, is being loaded. A and B are compared once it is there …"),
        ("broken:make", "failed", "B's model, broken:make, could not be loaded, so there is nothing to compare with."),
    ):
        with pytest.MonkeyPatch.context() as patch:
            there = replace(plain(page.models[0]), phase=phase, info=None)
            patch.setattr(
                page.engine, "state", lambda asked, name=name, there=there: there if asked == name else plain(asked)
            )
            for chart in ("apart", "back"):
                shown = page.shows(b=page.picture, model_b=name, tab="depth", depth=chart)
                assert said in texts(shown["gradients-text"])
            assert said in texts(page.shows(b=page.picture, model_b=name, metric="apart")["metric-text"])


@pytest.mark.parametrize(
    ("part", "region", "more"),
    [("back", "gradients-text", {}), ("depth channels", "depth-channels", {"back_by": "channels"})],
)
def test_stopped_it_keeps_what_was_measured_and_offers_the_rest_again(
    page: Page, part: str, region: str, more: dict[str, Any]
) -> None:
    both = {"model": "depth_net:slow", "b": page.picture, "prepare_b": "bgr", "tab": "depth", "depth": "back"}
    told: list[str] = []
    for message in page.messages(page.ask(**both, layers=["2"], **more)):
        shown = dict(message["updates"]) if message["part"] == part else {}
        if region not in shown:
            continue
        told.append(" ".join(texts(shown[region]).split()))
        if re.search(r"\b[1-9]\d* of \d+ \w+ measured", told[-1]) and "Try again" not in told[-1]:
            page.client.post(f"/cancel/p?part={part}")
    before, after = (re.search(r"(\d+) of (\d+) \w+ measured", text) for text in told[-2:])
    assert before is not None and after is not None
    assert 1 <= int(before[1]) <= int(after[1]) < int(after[2])
    assert "stop" in told[-2] and "numbers as CSV" not in told[-1]
    assert "Stopped: what was known by then stays here" in told[-1] and "Try again" in told[-1]


def test_addresses_of_earlier_versions_open_the_gradients(page: Page) -> None:
    old = View.from_query("?model=m&a=k&tab=gradients")
    assert old.tab == "depth" and "tab=depth" in old.to_query()
    shown = page.shows(tab="gradients")
    assert "Gradients by layer" in texts(shown["gradients-text"])


def test_the_calibration_of_the_page_is_that_of_the_library(page: Page) -> None:
    """A second picture of the same kind: the median over the ring of pairs."""
    pictures = [page.tensor, page.tensor.flip(1), page.tensor.flip(3)]
    found = parting_calibration(page.net(MODELS[0]), pictures)
    assert found.total == 3 and found.by_place["0", 0] > 0


def test_the_table_and_its_file_have_both_distances_of_every_channel(page: Page) -> None:
    shown = page.shows(b=page.other, layers=["2"], table=True)  # type: ignore[attr-defined]
    rows = json.dumps(shown["card-table 0"])
    assert '"KS"' in rows and '"smirnov"' in rows and '"wasserstein"' in rows


def test_two_models_axis_has_room_for_its_numbers() -> None:
    """Plotly writes nine numbers a decade where none are asked for."""
    for least, step in ((0.02, "D2"), (1e-7, 1)):
        calls = [PartedCall(name, 0, value, 0.0, 0.0) for name, value in (("one", least), ("two", 0.1))]
        values = {call.place: call.distance for call in calls}
        figure = parting_figure(calls, values, 1e-3, None, called="distance", logarithmic=True)
        assert figure.layout.yaxis.dtick == step


def test_where_most_sizes_differ_the_chart_is_of_distributions(page: Page) -> None:
    net = page.net(MODELS[0])
    a, b = torch.rand(2, 1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    like, unlike = parting(net, a, b), parting(net, a, b[..., :9, :9])
    assert not like.by_distribution and unlike.by_distribution
    assert along_the_depth(like, None) == calibrated(like, None)
    values = along_the_depth(unlike, None)
    by_scipy = [
        ks_2samp(one.flatten(), other.flatten()).statistic
        for one, other in zip(*(net[0](each)[0].detach().numpy() for each in (a, b[..., :9, :9])), strict=True)
    ]
    assert values["0", 0] == pytest.approx(np.mean(by_scipy), rel=1e-6)
    assert all(0 <= values[step.place] <= 1 for step in unlike.steps)


def test_the_page_says_that_it_compares_distributions(page: Page) -> None:
    shown = page.shows(b=page.picture, prepare_b="larger", tab="depth", depth="apart", metric="apart")
    said = texts(shown["gradients-text"])
    assert "distributions, mean KS" in said and "differ in size at 4 of 7 layers" in said
    assert "numbers as CSV" in said and "point at them" in said and "part at the first" not in said
    heights = array(shown["gradients"]["figure"]["data"][0]["y"])
    assert np.isfinite(heights).sum() == 4 and np.nanmin(heights) >= 0 and np.nanmax(heights) <= 1
    assert "distributions (KS)" in texts(shown["metric-text"])


def test_where_sizes_differ_the_first_layer_is_the_first_that_can_be_compared(page: Page) -> None:
    net, other = page.net(MODELS[0]), page.net(MODELS[0])
    with torch.no_grad():
        other[6].weight += 1
        other[0].weight *= 2
    a, b = torch.rand(2, 1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    found = parting(net, a, b[..., :9, :9], other)
    first = first_parting(found)
    assert first.call is not None and first.call.layer == "4"
    assert "They part at the first layer that can be compared, " in texts(to_markup(apart._sentence(found, first)))
    assert apart._left_out(found) == (
        " 4 layers are left out, because one model alone has them, or A and B differ in size there."
    )
    same = parting(net, a, b, other)
    assert not apart._left_out(same)
    assert "They part at the first layer, " in texts(to_markup(apart._sentence(same, first_parting(same))))
