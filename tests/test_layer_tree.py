"""The layer tree: its list of nodes, its keys, and the component in a real browser."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import dash
import pytest
from dash import Input, Output, html
from inline_engine import INFO
from playwright.sync_api import BrowserContext, Locator, Page, expect
from werkzeug.serving import make_server

from hookscope.dashboard.asking.layer_keys import ROOT_KEY, canonical, key_of, parse_key
from hookscope.dashboard.components.layer_tree import LayerTree, shape_text, tree_nodes
from hookscope.dashboard.panels.tree import nodes_of
from hookscope.hooks.results.looks import Call, LayerInfo

ASSETS = Path(__file__).resolve().parent.parent / "assets"
NCHW = ("image", "channel", "height", "width")
BODY = "<b onmouseover=alert(1)>x</b>"


def call(*shape: int, axes: tuple[str, ...] = NCHW, order: int = 0) -> Call:
    return Call(shape=shape, axes=axes[: len(shape)], order=order)


def layer(name: str, type_: str, *calls: Call, leaf: bool = True, parameters: int = 0, **more: Any) -> LayerInfo:
    return LayerInfo(name, type_, parameters, more.pop("multiply_adds", 0), calls, leaf, **more)


def small_model() -> list[LayerInfo]:
    """A hand-made network with one of everything: a reused module, dead ones, an alias, markup in a name."""
    big, small = (1, 64, 56, 56), (1, 128, 28, 28)
    layers = [
        layer("", "SmallNet", call(1, 1000), leaf=False, parameters=123456, multiply_adds=987_654_321),
        layer("conv1", "Conv2d", call(1, 64, 112, 112), parameters=9408, multiply_adds=118_013_952),
        layer("bn1", "BatchNorm2d", call(1, 64, 112, 112), parameters=128),
        layer("relu", "ReLU", call(1, 64, 112, 112)),
        layer("layer1", "Sequential", call(*big), leaf=False, parameters=37120),
    ]
    for stage, shape in (("layer1", big), ("layer2", small)):
        if stage == "layer2":
            layers.append(layer("layer2", "Sequential", call(*shape), leaf=False, parameters=200000))
        for index in range(2):
            block = f"{stage}.{index}"
            layers += [
                layer(block, "BasicBlock", call(*shape), leaf=False, parameters=18560),
                layer(f"{block}.conv1", "Conv2d", call(*shape), parameters=9216),
                layer(f"{block}.bn1", "BatchNorm2d", call(*shape), parameters=64),
                layer(f"{block}.relu", "ReLU", call(*shape), call(*shape)),
                layer(f"{block}.conv2", "Conv2d", call(*shape), parameters=9216),
            ]
    never = "It is used in training only."
    return [
        *layers,
        layer("aux", "AuxHead", leaf=False, parameters=77, reason_not_run=never),
        layer("aux.conv", "Conv2d", parameters=77, reason_not_run=never),
        layer(BODY, "Identity", call(1, 128, 28, 20), aliases=("other.name",)),
        layer("fc", "Linear", call(1, 1000), parameters=513000, multiply_adds=512000),
    ]


# --- keys -------------------------------------------------------------------------------------------------------------


ODD = ["", "a", "a.b.0", "a:1", "a:", ":", "x.y:0", "a:01", "a:1:01", "a:\u0661", "(model)", "((model))", "(model)x"]


@pytest.mark.parametrize("name", [*ODD, "a:" + "9" * 5000])
@pytest.mark.parametrize("which", [0, 1, 17])
def test_a_key_comes_back_as_the_name_and_the_call(name: str, which: int) -> None:
    assert parse_key(key_of(name, which)) == (name, which)


def test_the_first_call_is_the_name_alone_and_the_root_is_visible() -> None:
    assert [key_of("a"), key_of("a", 1), key_of(""), key_of("", 2)] == ["a", "a:1", ROOT_KEY, f"{ROOT_KEY}:2"]
    assert parse_key("a:0") == parse_key("a") == ("a", 0)


def test_two_layers_never_share_a_key() -> None:
    assert key_of("a:1") != key_of("a", 1)
    keys = [key_of(name, which) for name in ODD for which in (0, 1, 10)]
    assert len(set(keys)) == len(keys)


def test_a_call_has_one_key_however_it_was_written() -> None:
    assert parse_key("a:01") == ("a:01", 0)  # no second key of "a:1", but a layer of that name
    assert [canonical(key) for key in ("a:0", "a:1", "a:01", "(model):0")] == ["a", "a:1", "a:01", ROOT_KEY]


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes", "text"),
    [
        ((1, 32, 112, 112), NCHW, "32·112²"),
        ((1, 32, 112, 96), NCHW, "32·112×96"),
        ((1, 56, 56, 96), ("image", "height", "width", "channel"), "96·56²"),
        ((1, 197, 768), ("image", "token", "feature"), "197·768"),
        ((1, 1000), ("image", "channel"), "1000"),
        ((64, 49, 96), ("window", "token", "feature"), "64·49·96"),
        ((1,), ("image",), "1"),
        ((), (), ""),
    ],
)
def test_shape_text(shape: tuple[int, ...], axes: tuple[str, ...], text: str) -> None:
    assert shape_text(Call(shape=shape, axes=axes, order=0)) == text


# --- nodes ------------------------------------------------------------------------------------------------------------


def by_name(nodes: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {node["name"]: node for node in nodes}


def test_nodes_are_in_pre_order_with_depth_label_and_children() -> None:
    nodes = tree_nodes(small_model(), title="SmallNet on paper")
    assert len(nodes) == len(small_model())
    assert [(n["label"], n["depth"]) for n in nodes[:7]] == [
        ("SmallNet on paper", 0),
        ("conv1", 1),
        ("bn1", 1),
        ("relu", 1),
        ("layer1", 1),
        ("0", 2),
        ("conv1", 3),
    ]
    assert by_name(nodes)[""]["children"] == 8
    assert by_name(nodes)["layer1.0"]["children"] == 4


def test_nodes_come_in_pre_order_whatever_the_order_of_the_layers() -> None:
    layers = [layer(name, "M", call(1, 2)) for name in ("", "a.x", "b", "a", "b.y", "a.z.deep")]
    nodes = tree_nodes(layers)
    assert [(n["name"], n["depth"], n["label"]) for n in nodes] == [
        ("", 0, "M"),
        ("b", 1, "b"),
        ("b.y", 2, "y"),
        ("a", 1, "a"),
        ("a.x", 2, "x"),
        ("a.z.deep", 2, "z.deep"),
    ]


def opcodes(act: Callable[[], object]) -> int:
    """How many steps Python takes: the work that something takes, however fast the machine is."""
    counted = [0]

    def trace(frame: Any, event: str, argument: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        counted[0] += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return counted[0]


def wide(count: int) -> list[LayerInfo]:
    """So many siblings, every second one an operation that ran just after the module before it."""
    modules = [layer(str(n), "ReLU", call(1, 2, order=2 * n)) for n in range(count)]
    added = [layer(f"/add@{n}", "add", call(1, 2, order=2 * n + 1), operation=True) for n in range(count)]
    return [layer("", "Net", call(1, 2), leaf=False), *modules, *added]


def deep(count: int) -> list[LayerInfo]:
    """So many branches of ten modules inside each other."""
    names = [".".join([str(n), *["0"] * depth]) for n in range(count // 10) for depth in range(10)]
    return [layer(name, "Sequential", call(1, 2), leaf=False) for name in ("", *names)]


@pytest.mark.parametrize("build", [wide, deep])
def test_nodes_of_twice_as_many_layers_take_twice_as_long(build: Callable[[int], list[LayerInfo]]) -> None:
    few, many = (opcodes(partial(tree_nodes, build(count))) for count in (100, 200))
    assert many < 2.2 * few


def test_operations_stand_after_what_ran_before_them() -> None:
    assert [node["name"] for node in tree_nodes(wide(3))] == ["", "0", "/add@0", "1", "/add@1", "2", "/add@2"]
    layers = [
        layer("", "Net", call(1, 2), leaf=False),
        layer("late", "ReLU", call(1, 2, order=5)),
        layer("never", "ReLU"),
        layer("early", "ReLU", call(1, 2, order=1)),
        layer("last", "ReLU", call(1, 2, order=9)),
        *(layer(f"/op{at}", "op", call(1, 2, order=at), operation=True) for at in (0, 2, 3, 7, 10)),
    ]
    assert [node["label"] for node in tree_nodes(layers)][1:] == [
        *("op0", "late", "never", "early", "op2", "op3", "op7", "last", "op10")
    ]


def test_calls_reasons_aliases_and_notes() -> None:
    nodes = by_name(tree_nodes(small_model()))
    assert nodes[""]["label"] == "SmallNet"
    assert [row["key"] for row in nodes["layer1.0.relu"]["call_rows"]] == ["layer1.0.relu", "layer1.0.relu:1"]
    assert "call_rows" not in nodes["conv1"]
    assert (nodes["aux.conv"]["ran"], nodes["aux.conv"]["reason"]) == (False, "It is used in training only.")
    assert nodes[BODY]["aliases"] == ["other.name"]
    assert nodes["layer1"]["note"] == "2 blocks"
    assert nodes["conv1"]["full_shape"] == "1 × 64 × 112 × 112 (image, channel, height, width), float32"


def test_thousands_of_calls_get_a_limited_number_of_rows() -> None:
    node = tree_nodes([layer("", "LSTMCell", *[call(1, 8)] * 1000)])[0]
    assert (node["calls"], len(node["call_rows"])) == (1000, 64)


def test_a_wrapper_is_not_of_the_kind_that_its_child_is() -> None:
    names = [
        ("", "ConvNeXt"),
        ("a", "Conv2dNormActivation"),
        ("a.0", "Conv2d"),
        ("a.1", "BatchNorm2d"),
        ("a.2", "ReLU6"),
        ("b", "BatchNormAct2d"),
        ("b.act", "Identity"),
        ("c", "MultiheadAttention"),
        ("d", "FeatureExtractor"),
        ("e", "GELU"),
        ("f", "QuickGELUActivation"),
    ]
    kinds = {node["name"]: node["kind"] for node in tree_nodes([layer(*pair, call(1, 2)) for pair in names])}
    assert {name: kind for name, kind in kinds.items() if kind} == {
        "a.0": "conv",
        "a.1": "norm",
        "a.2": "act",
        "b": "norm",
        "e": "act",
        "f": "act",
    }


def test_the_component_serialises_what_it_was_given_and_refuses_unknown_properties() -> None:
    tree = LayerTree(id="tree", nodes=[{"name": ""}], selected=["a"], metric=[0.5], metric_texts=["half"])
    plain = tree.to_plotly_json()
    assert (plain["namespace"], plain["type"]) == ("hookscope", "LayerTree")
    assert plain["props"]["selected"] == ["a"]
    assert "event" not in plain["props"]
    with pytest.raises(TypeError):
        LayerTree(id="tree", nodez=[])  # type: ignore[call-arg]


# --- in the browser ---------------------------------------------------------------------------------------------------


def make_app(nodes: list[dict[str, Any]], outside: str = "layer2.1.relu:1", **props: Any) -> dash.Dash:
    app = dash.Dash(__name__, assets_folder=str(ASSETS), assets_ignore=r"^(?!layer_tree)", enable_mcp=False)
    app.layout = html.Div(
        [
            html.Div(LayerTree(id="tree", nodes=nodes, **props), style={"width": 300, "height": 600}),
            html.Div("nothing yet", id="seen"),
            html.Button("from outside", id="outside"),
            html.Textarea(id="notes"),
        ]
    )

    @app.callback(Output("tree", "selected"), Input("outside", "n_clicks"), prevent_initial_call=True)
    def choose(_: int) -> list[str]:
        return [outside]

    @app.server.after_request
    def content_policy(response: Any) -> Any:
        scripts = " ".join(["'self'", *app.csp_hashes()])
        response.headers["Content-Security-Policy"] = (
            f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
            "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        return response

    return app


@contextmanager
def served(app: dash.Dash) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app.server, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    nodes = tree_nodes(small_model(), title="small")
    places = {node["name"]: place for place, node in enumerate(nodes)}
    worst = [places[name] for name in ("layer2.1.relu", "layer1.0.conv2", "conv1", "fc")]
    texts = [f"share of {node['name']}" for node in nodes]
    values = [index / len(nodes) for index in range(len(nodes))]
    said = {"metric_texts": texts, "worst": worst, "alarms": 2, "alarm_text": "share of zeros 100 %"}
    with served(make_app(nodes, metric=values, **said)) as url:
        yield url


@pytest.fixture
def page(context: BrowserContext, address: str) -> Page:
    """The small model's tree, open in a browser that fails the test on any error in its console."""
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.goto(address)
    listen(page)
    return page


def listen(page: Page) -> None:
    """Write what the tree tells into #seen: how often, how, which keys, and what is selected then."""
    expect(page.locator("#seen")).to_have_text("nothing yet")
    page.evaluate(
        """() => {
            let count = 0;
            const list = (keys) => "[" + keys.map((key) => `'${key}'`).join(", ") + "]";
            document.addEventListener("layerschosen", ({ detail: { keys, mode, selected } }) => {
                count += 1;
                document.getElementById("seen").textContent = `${count} ${mode} ${list(keys)} -> ${list(selected)}`;
            });
        }"""
    )


def row(page: Page, key: str) -> Locator:
    return page.locator(f'[role=treeitem][data-key="{key}"]').first


def labels(page: Page) -> list[str]:
    return page.locator("[role=treeitem] .hs-name").all_inner_texts()


def search(page: Page, text: str) -> None:
    page.get_by_label("Search layers").fill(text)


def focused(page: Page) -> str | None:
    return page.evaluate("document.activeElement.dataset.key ?? null")


@pytest.mark.browser
def test_rows_say_what_they_are_to_assistive_technology(page: Page) -> None:
    tree = page.get_by_role("tree", name="Layers")
    assert tree.get_attribute("aria-multiselectable") == "true"
    stages = ["layer1", "0", "1", "layer2", "0", "1"]
    assert labels(page) == ["small", "conv1", "bn1", "relu", *stages, "aux", BODY, "fc"]

    names = ["aria-level", "aria-setsize", "aria-posinset", "aria-expanded", "aria-selected"]

    def attributes(key: str) -> list[str | None]:
        return [row(page, key).get_attribute(name) for name in names]

    assert attributes("(model)") == ["1", "1", "1", "true", "false"]
    assert attributes("bn1") == ["2", "8", "2", None, "false"]
    assert attributes("layer1.1") == ["3", "2", "2", "false", "false"]
    assert page.locator("[role=treeitem][tabindex='0']").count() == 1


@pytest.mark.browser
def test_names_types_shapes_and_the_switched_column(page: Page) -> None:
    assert row(page, "conv1").inner_text().split("\n") == ["conv1", "Conv2d", "64·112²"]
    tip = row(page, "conv1").get_attribute("title") or ""
    assert "9,408 parameters, 118,013,952 multiply-adds" in tip
    assert "1 × 64 × 112 × 112" in tip
    assert "other.name" in (row(page, "fc").locator("xpath=preceding-sibling::*[1]").get_attribute("title") or "")
    switch = page.locator(".hs-column")
    expect(switch).to_have_text("shape")
    switch.click()
    expect(switch).to_have_text("params")
    expect(row(page, "conv1").locator(".hs-cell")).to_have_text("9.41 k")
    switch.click()
    expect(row(page, "conv1").locator(".hs-cell")).to_have_text("118 M")


@pytest.mark.browser
def test_a_wide_tree_shows_every_column(page: Page) -> None:
    page.evaluate("document.querySelector('.hs-tree').parentElement.style.width = '460px'")
    expect(row(page, "conv1").locator(".hs-cell")).to_have_text(["64·112²", "9.41 k", "118 M"])


@pytest.mark.browser
def test_a_click_selects_alone_and_the_plus_adds(page: Page) -> None:
    seen = page.locator("#seen")
    row(page, "conv1").click()
    expect(seen).to_have_text("1 replace ['conv1'] -> ['conv1']")
    expect(row(page, "conv1")).to_have_attribute("aria-selected", "true")
    row(page, "fc").click()
    expect(seen).to_have_text("2 replace ['fc'] -> ['fc']")
    row(page, "bn1").hover()
    row(page, "bn1").locator(".hs-add").click()
    expect(seen).to_have_text("3 toggle ['bn1'] -> ['fc', 'bn1']")
    row(page, "(model)").click(modifiers=["Control"])
    expect(seen).to_have_text("4 toggle ['(model)'] -> ['fc', 'bn1', '(model)']")
    row(page, "fc").click(modifiers=["Control"])
    expect(seen).to_have_text("5 toggle ['fc'] -> ['bn1', '(model)']")
    row(page, "conv1").click()
    row(page, "relu").click(modifiers=["Shift"])
    expect(seen).to_have_text("7 replace ['conv1', 'bn1', 'relu'] -> ['conv1', 'bn1', 'relu']")


@pytest.mark.browser
def test_calls_are_rows_of_their_own(page: Page) -> None:
    row(page, "layer1.0").locator(".hs-branch").click()
    relu = row(page, "layer1.0.relu")
    expect(relu.locator(".hs-badge")).to_have_text("×2")
    expect(relu).to_have_attribute("aria-expanded", "false")
    relu.locator(".hs-branch").click()
    second = row(page, "layer1.0.relu:1")
    expect(second.locator(".hs-name")).to_have_text("call 2 of 2")
    second.click()
    expect(page.locator("#seen")).to_have_text("1 replace ['layer1.0.relu:1'] -> ['layer1.0.relu:1']")
    expect(second).to_have_attribute("aria-level", "5")
    relu.dblclick()
    expect(second).to_have_count(0)
    expect(page.locator("#seen")).to_have_text("3 replace ['layer1.0.relu'] -> ['layer1.0.relu']")
    page.keyboard.press("ArrowRight")
    second.click()
    expect(relu).to_have_attribute("aria-selected", "false")


@pytest.mark.browser
def test_a_layer_that_never_ran_cannot_be_selected_and_says_why(page: Page) -> None:
    row(page, "aux").click(force=True)  # a branch that never ran still opens
    dead = row(page, "aux.conv")
    assert dead.get_attribute("aria-disabled") == "true"
    assert dead.get_attribute("aria-selected") is None
    assert "training only" in (dead.get_attribute("title") or "")
    dead.click(force=True)  # playwright waits for aria-disabled to go away
    expect(page.get_by_role("alert")).to_have_text("aux.conv never ran. It is used in training only.")
    expect(page.locator("#seen")).to_have_text("nothing yet")


@pytest.mark.browser
def test_the_keyboard_walks_opens_closes_and_selects(page: Page) -> None:
    seen = page.locator("#seen")
    row(page, "(model)").focus()
    keyboard = page.keyboard
    for key, expected in [
        ("ArrowDown", "conv1"),
        ("End", "fc"),
        ("ArrowUp", BODY),
        ("Home", "(model)"),
        ("ArrowRight", "conv1"),
        ("ArrowLeft", "(model)"),
        ("l", "layer1"),
        ("ArrowRight", "layer1.0"),
        ("ArrowRight", "layer1.0"),
        ("ArrowRight", "layer1.0.conv1"),
        ("ArrowLeft", "layer1.0"),
        ("ArrowLeft", "layer1.0"),
        ("ArrowLeft", "layer1"),
    ]:
        keyboard.press(key)
        assert focused(page) == expected, key
    assert row(page, "layer1.0").get_attribute("aria-expanded") == "false"
    keyboard.press("Enter")
    expect(seen).to_have_text("1 replace ['layer1'] -> ['layer1']")
    keyboard.press("ArrowDown")
    keyboard.press(" ")
    expect(seen).to_have_text("2 toggle ['layer1.0'] -> ['layer1', 'layer1.0']")
    assert page.locator("[role=treeitem][tabindex='0']").get_attribute("data-key") == "layer1.0"
    keyboard.press("/")
    assert page.evaluate("document.activeElement.matches('.hs-tree-search input')")


@pytest.mark.browser
def test_slash_reaches_the_search_from_the_page_but_not_from_a_field(page: Page) -> None:
    page.locator("#notes").focus()
    page.keyboard.press("/")
    expect(page.locator("#notes")).to_have_value("/")
    page.locator("#outside").focus()
    page.keyboard.press("/")
    page.keyboard.type("fc")
    expect(page.get_by_label("Search layers")).to_have_value("fc")
    assert labels(page) == ["small", "fc"]
    page.keyboard.press("Enter")
    expect(page.locator("#seen")).to_have_text("1 replace ['fc'] -> ['fc']")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Search layers")).to_have_value("")
    assert len(labels(page)) == 13


@pytest.mark.parametrize(
    ("text", "count", "found"),
    [
        ("LAYER2.1", 5, ["small", "layer2", "1", "conv1", "bn1", "relu", "conv2"]),
        ("linear", 1, ["small", "fc"]),
        ("layer?.0.conv2", 2, ["small", "layer1", "0", "conv2", "layer2", "0", "conv2"]),
        ("fc*", 1, ["small", "fc"]),
        (r"/^layer1\.\d$/", 2, ["small", "layer1", "0", "1"]),
        ("/CONV2$/i", 4, None),
        ("/CONV2$/", 0, []),
        (":conv2", 10, None),
        (":Conv2dX", 0, []),
        (":*norm*d", 5, None),
        ("other.n", 1, ["small", BODY]),
        ("onmouseover=alert", 1, ["small", BODY]),
    ],
)
@pytest.mark.browser
def test_search(page: Page, text: str, count: int, found: list[str] | None) -> None:
    search(page, text)
    expect(page.get_by_role("status")).to_have_text(f"{count} of 30 layers")
    if found is not None:
        assert labels(page) == found


@pytest.mark.browser
def test_what_matched_is_marked_and_its_ancestors_are_not(page: Page) -> None:
    search(page, "conv2")
    expect(row(page, "layer1.0.conv2").locator(".hs-name mark")).to_have_text("conv2")
    expect(row(page, "conv1").locator(".hs-type mark")).to_have_text("Conv2")
    assert "hs-dim" in (row(page, "layer1.0").get_attribute("class") or "")
    assert row(page, "layer1.0").locator("mark").count() == 0


@pytest.mark.browser
def test_a_bad_regular_expression_is_a_sentence(page: Page) -> None:
    search(page, "/(/")
    expect(page.get_by_role("alert")).to_have_text("This regular expression cannot be read: unterminated group.")
    assert len(labels(page)) == 13


GAPS = """() => { let last = performance.now();
  window.longest = 0;
  const note = () => {
    window.longest = Math.max(window.longest, performance.now() - last);
    last = performance.now();
  };
  setInterval(note, 5);
}"""


@pytest.fixture(scope="module")
def large() -> Iterator[str]:
    """A tree of 2,000 layers with long names."""
    names = [f"encoder.blocks_of_the_network.stage_{i // 100}.inner_layer_number_{i}" for i in range(1999)]
    shape = call(1, 64, 56, 56)
    layers = [layer("", "LargeNet", shape, leaf=False), *(layer(name, "Conv2d", shape) for name in names)]
    with served(make_app(tree_nodes(layers))) as url:
        yield url


@pytest.mark.browser
@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("**********z", "0 of 2,000 layers"),
        ("*e*e*e*e*e*e*e*e*e*e*z", "0 of 2,000 layers"),
        (":*o*n*v*2*d*o*n*v*2*d*z", "0 of 2,000 layers"),
        ("***7?8", "20 of 2,000 layers"),
        ("/(.+)+!$/", "2,000 layers"),
        ("/^(([a-z_]+)*.)*!$/", "2,000 layers"),
        ("/number_1(9)+$/", "2 of 2,000 layers"),
    ],
)
def test_no_search_keeps_the_page_from_answering(context: BrowserContext, large: str, text: str, status: str) -> None:
    page = context.new_page()
    page.goto(large)
    page.wait_for_selector("[role=treeitem]")
    page.evaluate(GAPS)
    search(page, text)
    page.evaluate("document.getElementById('notes').focus()")  # which a page that is busy for ever would not do
    if status == "2,000 layers":
        search(page, "number_1998")  # typing goes on while the pattern is tried
        expect(page.get_by_role("status")).to_have_text("1 of 2,000 layers")
        search(page, text)
        page.evaluate("window.longest = 0")
        page.wait_for_timeout(1000)
        print(f"{text}: while it is tried, the page was busy for {page.evaluate('window.longest'):.0f} ms at most")
        expect(page.locator(".hs-tree-note")).to_have_text(
            "This regular expression takes too long: repeat less inside of what is repeated.", timeout=30_000
        )
    expect(page.get_by_role("status")).to_have_text(status, timeout=30_000)
    search(page, "/number_77$/")  # the next pattern is tried as if nothing had been
    expect(page.get_by_role("status")).to_have_text("1 of 2,000 layers", timeout=30_000)


@pytest.mark.browser
def test_enter_before_a_pattern_was_tried_opens_what_it_finds(page: Page) -> None:
    search(page, "/^layer2.1.conv2$/")
    page.get_by_label("Search layers").press("Enter")
    expect(page.locator("#seen")).to_have_text("1 replace ['layer2.1.conv2'] -> ['layer2.1.conv2']")


@pytest.mark.browser
def test_quick_filters_join_the_search(page: Page) -> None:
    page.get_by_role("button", name="norm", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("5 of 30 layers")
    search(page, "layer1")
    expect(page.get_by_role("status")).to_have_text("2 of 30 layers")
    page.get_by_role("button", name="select all 2 matches").click()
    both = ["layer1.0.bn1", "layer1.1.bn1"]
    expect(page.locator("#seen")).to_have_text(f"1 replace {both} -> {both}")
    search(page, "")
    page.get_by_role("button", name="all", exact=True).click()
    assert page.get_by_role("button", name="select all").count() == 0


@pytest.mark.browser
def test_a_branch_opened_by_hand_during_a_search_shows_what_is_inside(page: Page) -> None:
    search(page, ":BasicBlock")
    row(page, "layer1.0").locator(".hs-branch").click()
    expect(row(page, "layer1.0.conv1")).to_be_visible()
    row(page, "layer1").locator(".hs-branch").click()
    assert labels(page) == ["small", "layer1", "layer2", "0", "1"]


@pytest.mark.browser
def test_every_branch_opens_and_closes_at_once(page: Page) -> None:
    page.get_by_label("Open every branch").click()
    expect(page.locator("[role=treeitem]")).to_have_count(30)
    page.get_by_label("Close all but the first two levels").click()
    expect(page.locator("[role=treeitem]")).to_have_count(13)


@pytest.mark.browser
def test_a_selection_from_outside_opens_its_branches_and_comes_into_view(page: Page) -> None:
    page.locator("#outside").click()
    chosen = row(page, "layer2.1.relu:1")
    expect(chosen).to_have_attribute("aria-selected", "true")
    expect(chosen).to_be_in_viewport()
    row(page, "layer2.1").locator(".hs-branch").click()
    expect(row(page, "layer2.1")).to_have_class("hs-tree-row hs-holds")


@pytest.mark.browser
def test_markup_in_a_name_stays_text(page: Page) -> None:
    expect(page.locator("[role=treeitem] b")).to_have_count(0)
    page.get_by_text(BODY).hover()


@pytest.mark.browser
def test_the_names_of_two_hundred_nested_modules_stay_in_the_panel(context: BrowserContext) -> None:
    names = ["", *(".".join(["0"] * depth) for depth in range(1, 201))]
    layers = [layer(name, "Sequential", call(1, 2), leaf=False) for name in names]
    with served(make_app(tree_nodes(layers), outside=names[-1])) as url:
        page = context.new_page()
        page.goto(url)
        page.locator("#outside").click()
        expect(row(page, names[-1])).to_have_attribute("aria-level", "201")
        expect(row(page, names[-1])).to_be_in_viewport()
        box, panel = row(page, names[-1]).locator(".hs-name").bounding_box(), page.get_by_role("tree").bounding_box()
        assert box and panel and box["x"] + box["width"] < panel["x"] + panel["width"] and box["width"] > 5
        page.goto("about:blank")


def test_twenty_thousand_rows_cost_the_server_little_more_than_to_write_them_down() -> None:
    """By processor time, against the same rows as JSON in the same run: 3 on the day this was written."""
    blocks = [f"stages.{stage}.{block}" for stage in range(40) for block in range(50)]
    layers = [
        layer("", "Net", call(1, 5, order=20_000), leaf=False),
        layer("stages", "Sequential", call(1, 3, 16, 16), leaf=False),
        *(layer(f"stages.{stage}", "Sequential", call(1, 3, 16, 16), leaf=False) for stage in range(40)),
        *(layer(block, "Sequential", call(1, 3, 16, 16), leaf=False) for block in blocks),
        *(
            layer(f"{block}.{place}", "ReLU", call(1, 3, 16, 16, order=9 * number + place))
            for number, block in enumerate(blocks)
            for place in range(9)
        ),
    ]
    info = replace(INFO, layers=tuple(layers))
    ratios = []
    for _ in range(5):
        began = time.thread_time()
        nodes = nodes_of(info)
        made = time.thread_time()
        json.dumps(nodes)
        ratios.append((made - began) / (time.thread_time() - made))
    assert len(nodes) == 20_042 and median(ratios) < 10, ratios


@pytest.mark.browser
def test_of_twenty_thousand_rows_only_those_in_sight_are_drawn(context: BrowserContext) -> None:
    """And nobody notices: the keyboard, the mouse, the search and a selection from elsewhere reach every row."""
    count = 20_000
    layers = [layer("", "Net", call(1, 2), leaf=False), *(layer(str(n), "ReLU", call(1, 2)) for n in range(count))]
    with served(make_app(tree_nodes(layers), outside="12345")) as url:
        page = context.new_page()
        page.goto(url)
        listen(page)
        rows = page.get_by_role("treeitem")
        expect(page.get_by_role("status")).to_have_text("20,001 layers")
        assert rows.count() < 300 and row(page, "7").get_attribute("aria-setsize") == str(count)
        scroller = page.get_by_role("tree")
        heights = "(list) => [list.scrollHeight, list.querySelector('[data-row]').offsetHeight]"
        whole, one = scroller.evaluate(heights)
        assert abs(whole - (count + 1) * one) < 3 * one  # the scroll bar is that of the whole tree

        row(page, "3").click()
        page.keyboard.press("End")
        expect(row(page, str(count - 1))).to_be_focused()
        expect(row(page, str(count - 1))).to_be_in_viewport()
        page.keyboard.press("ArrowUp")
        expect(row(page, str(count - 2))).to_be_focused()
        page.keyboard.press("Enter")
        expect(row(page, str(count - 2))).to_have_attribute("aria-selected", "true")
        for _ in range(30):
            page.keyboard.press("PageUp")
        expect(row(page, str(count - 302))).to_be_focused()
        expect(row(page, str(count - 302))).to_be_in_viewport()
        page.keyboard.press("Home")
        expect(row(page, "(model)")).to_be_focused()
        assert rows.count() < 300

        scroller.evaluate("(list, top) => { list.scrollTop = top; }", 9_000 * one)
        expect(row(page, "9005")).to_be_in_viewport()
        expect(row(page, "(model)")).to_be_focused()  # out of sight, and not lost
        row(page, "9005").click()
        expect(page.locator("#seen")).to_contain_text("-> ['9005']")
        page.keyboard.press("ArrowDown")
        expect(row(page, "9006")).to_be_focused()
        assert scroller.evaluate(heights)[0] == whole and page.locator("[role=treeitem][tabindex='0']").count() == 1

        page.locator("#outside").click()
        expect(row(page, "12345")).to_have_attribute("aria-selected", "true")
        expect(row(page, "12345")).to_be_in_viewport()
        search(page, "1999?")
        expect(page.get_by_role("status")).to_have_text("10 of 20,001 layers")
        expect(rows).to_have_count(11)
        search(page, "")
        expect(page.get_by_role("status")).to_have_text("20,001 layers")
        assert rows.count() < 300
        page.goto("about:blank")


# --- a real model -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet18() -> tuple[LayerInfo, ...]:
    """ResNet-18 as one recorded forward pass saw it; the weights do not matter here."""
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    from hookscope.hooks.layers.describe import describe

    return describe(models.resnet18().eval(), torch.zeros(1, 3, 224, 224))


def test_nodes_of_a_recorded_resnet18(resnet18: tuple[LayerInfo, ...]) -> None:
    nodes = tree_nodes(resnet18, "ResNet-18")
    modules = [info.name for info in resnet18 if not info.operation]
    names = [node["name"] for node in nodes]
    assert [name for name in names if "/" not in name] == modules  # named_modules is pre-order too
    # each operation in its module, after what ran before it; ResNet's `relu` is registered before and runs twice
    place = names.index("layer1.0/add")
    assert names[place - 1 : place + 2] == ["layer1.0.bn2", "layer1.0/add", "layer1.1"]
    place = names.index("/flatten")
    assert names[place - 1 : place + 2] == ["avgpool", "/flatten", "fc"]
    found = by_name(nodes)
    assert found[""]["parameters"] == 11_689_512
    assert (found["/flatten"]["label"], found["layer1.0/add"]["depth"]) == ("flatten", 3)
    assert (found["layer4"]["shape"], found["layer4"]["note"], found["fc"]["shape"]) == ("512·7²", "2 blocks", "1000")
    assert sum(node["calls"] for node in nodes if node["kind"] == "act") == 17
    assert sum(node["kind"] == "conv" for node in nodes) == sum(node["kind"] == "norm" for node in nodes) == 20


@pytest.mark.browser
def test_a_closed_branch_warns_of_what_it_hides(page: Page) -> None:
    warned = page.locator("[role=treeitem]:has(.hs-alarm)")
    keys = "(rows) => rows.map((row) => row.dataset.key)"
    assert warned.evaluate_all(keys) == ["layer1.0", "layer2.1"]  # their open ancestors show the row that warns
    said = "1 layer inside: share of zeros 100 %"
    expect(row(page, "layer1.0")).to_have_attribute("aria-description", said)
    assert said in (row(page, "layer1.0").get_attribute("title") or "")
    row(page, "layer1").locator(".hs-branch").click()
    row(page, "(model)").locator(".hs-branch").click()
    expect(row(page, "(model)")).to_have_attribute("aria-description", "2 layers inside: share of zeros 100 %")
    row(page, "(model)").locator(".hs-branch").click()
    row(page, "layer2.1").locator(".hs-branch").click()
    expect(row(page, "layer2.1").locator(".hs-alarm")).to_have_count(0)  # it is open: the row itself is there


@pytest.mark.browser
def test_the_worst_rows_are_walked_and_listed_by_their_value(page: Page) -> None:
    walk = page.get_by_role("button", name="next worst")
    told = page.locator(".hs-tree-worst [role=status]")
    walk.click()
    expect(told).to_have_text("1 of 4: layer2.1.relu, share of layer2.1.relu")
    expect(row(page, "layer2.1.relu")).to_be_in_viewport()
    expect(row(page, "layer2.1.relu")).to_contain_class("hs-walked")
    walk.press("Enter")  # the focus has stayed
    expect(row(page, "layer1.0.conv2")).to_contain_class("hs-walked")
    expect(page.locator("[role=treeitem][tabindex='0']")).to_have_attribute("data-key", "layer1.0.conv2")
    walk.press("Enter")
    expect(told).to_have_text("No other layer is at share of zeros 100 %. 3 of 4: conv1, share of conv1")
    for _ in range(2):
        walk.press("Enter")
    expect(told).to_contain_text("1 of 4")  # from the last to the first
    listed = page.get_by_role("button", name="sort by value")
    listed.click()
    expect(listed).to_have_attribute("aria-pressed", "true")
    assert labels(page) == ["layer2.1.relu", "layer1.0.conv2", "conv1", "fc"]
    search(page, "conv")
    expect(page.locator("[role=treeitem]")).to_have_count(2)
    assert page.locator("[role=treeitem] mark").all_inner_texts() == ["conv", "conv"]
    walk.click()  # through what the search has found, which stays
    expect(told).to_contain_text("1 of 2: layer1.0.conv2")
    walk.click()
    expect(told).to_contain_text("2 of 2: conv1")
    expect(page.locator("[role=treeitem]")).to_have_count(2)
    row(page, "conv1").click()
    expect(page.locator("#seen")).to_have_text("1 replace ['conv1'] -> ['conv1']")
    search(page, "nothing is called so")
    expect(listed).to_be_disabled()  # what it lists is empty, and it does not claim to be in force
    expect(listed).to_have_attribute("aria-pressed", "false")
    search(page, "conv")
    expect(listed).to_have_attribute("aria-pressed", "true")
    listed.click()
    search(page, "")
    expect(page.locator("[role=treeitem]").first).to_have_attribute("data-key", "(model)")


@pytest.mark.browser
def test_a_recorded_resnet18_in_the_browser(context: BrowserContext, resnet18: tuple[LayerInfo, ...]) -> None:
    app = make_app(tree_nodes(resnet18, "ResNet-18"), selected=["layer3.1.relu:1"])
    with served(app) as url:
        page = context.new_page()
        page.goto(url)
        chosen = row(page, "layer3.1.relu:1")
        expect(chosen).to_be_in_viewport()
        assert chosen.inner_text().split("\n") == ["call 2 of 2", "256·14²"]
        search(page, ":conv")
        expect(page.get_by_role("status")).to_have_text(f"20 of {len(resnet18)} layers")
        page.get_by_role("button", name="select all 20 matches").click()
        expect(page.locator("[aria-selected=true]")).to_have_count(20)
        page.goto("about:blank")  # no callback is under way when the server stops
