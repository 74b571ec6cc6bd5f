"""`hs.panel`: a component tree for one's own Dash application, which is run for real."""

from __future__ import annotations

import base64
import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from checkout import ENVIRON
from dash import dcc, html
from dash.development.base_component import Component
from own_page import array
from PIL import Image
from plotly.io.json import to_json_plotly
from served import until
from torch import nn

import hookscope as hs
from hookscope.dashboard.notebook.walls import NotShown

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)
    ).eval()


def captured(net: nn.Module, images: torch.Tensor, *patterns: str, **how: Any) -> Any:
    with hs.capture(net, patterns, **how) as seen, torch.no_grad():
        net(images)
    return seen


def parts(node: Any) -> Iterator[Component]:
    if isinstance(node, Component):
        yield node
        yield from parts(getattr(node, "children", None))
    elif isinstance(node, list | tuple):
        for child in node:
            yield from parts(child)


def graphs(panel: Component) -> dict[str, Any]:
    """The figures by the last part of their graphs' ids."""
    return {each.id.split("-", 2)[-1]: each.figure for each in parts(panel) if isinstance(each, dcc.Graph)}


def texts(panel: Component) -> str:
    found = [getattr(each, "children", None) for each in parts(panel)]
    flat = [text for each in found for text in (each if isinstance(each, list) else [each]) if isinstance(text, str)]
    return " ".join(flat)


def rows(panel: Component) -> list[list[str]]:
    return [[cell.children for cell in each.children] for each in parts(panel) if isinstance(each, html.Tr)]


def test_the_numbers_are_those_of_the_values(net: nn.Module) -> None:
    image = torch.rand(1, 3, 10, 12)
    panel = hs.panel(captured(net, image, "0"))
    with torch.no_grad():
        values = net[0](image)[0].double()  # type: ignore[index]
    numbers = dict(rows(panel))
    assert numbers["mean"] == f"{values.mean():.4g}" and numbers["max"] == f"{values.max():.4g}"
    assert numbers["std"] == f"{values.std(correction=0):.4g}" and numbers["values"] == "400"
    figures = graphs(panel)
    wall, histogram = figures["0-wall"], figures["0-histogram"]
    channels = array(wall.to_plotly_json()["data"][0]["z"]).ravel()
    strongest = values.abs().flatten(1).amax(1).argsort(descending=True).tolist()
    assert channels[np.isfinite(channels)].tolist() == strongest
    assert sum(1 for trace in histogram.data if trace.type == "scatter") == 1
    counts = np.asarray(histogram.data[0].customdata, float)[1:-1, 2]
    np.testing.assert_array_equal(counts, np.histogram(values.float().numpy(), 64)[0])
    picture = wall.layout.images[0].source
    assert picture.startswith("data:image/png;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).size[0] > 0


def test_one_image_of_a_batch(net: nn.Module) -> None:
    images = torch.rand(3, 3, 10, 12)
    seen = captured(net, images, "0", "4")
    panel = hs.panel(seen, image=2)
    with torch.no_grad():
        values, answer = net[0](images)[2].double(), net(images)[2].double()  # type: ignore[index]
    numbers = rows(panel)
    assert ["mean", f"{values.mean():.4g}"] in numbers and ["mean", f"{answer.mean():.4g}"] in numbers
    assert "Image 2 of 3" in texts(panel)
    with pytest.raises(NotShown, match="There is no image 3: 3 were captured"):
        hs.panel(seen, image=3)


def test_axes_are_told_by_the_recorded_run_by_the_type_or_taken_for_granted() -> None:
    torch.manual_seed(0)

    class Last(nn.Module):
        """Channels last, as in a ConvNeXt: 7 x 9 positions of 4 channels."""

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.act = nn.LayerNorm(4), nn.GELU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2).mean((2, 3))

    model, image = Last().eval(), torch.rand(1, 4, 7, 9)
    seen = captured(model, image, "norm", "act")
    plain = hs.panel(seen)
    assert texts(plain).count("Its four axes are taken for") == 1, "the norm's are known by its type"
    wall = graphs(plain)["0-wall"]
    assert np.isfinite(array(wall.to_plotly_json()["data"][0]["z"])).sum() == 4
    told = hs.panel(seen, layers=hs.describe(model, image))
    assert "taken for" not in texts(told)
    for figure in (graphs(told)["0-wall"], graphs(told)["1-wall"]):
        assert np.isfinite(array(figure.to_plotly_json()["data"][0]["z"])).sum() == 4


def test_numbers_alone_vectors_and_what_has_no_map(net: nn.Module) -> None:
    images = torch.rand(2, 3, 10, 12)
    counted = hs.panel(captured(net, images, "0", numbers="plain"))
    with torch.no_grad():
        mean = net[0](images).double().mean()  # type: ignore[index]
    assert ["mean", f"{mean:.4g}"] in rows(counted)
    assert "of all 2 images" in texts(counted) and "No histogram was kept" in texts(counted)
    exact = hs.panel(captured(net, images, "0", numbers="exact"))
    assert list(graphs(exact)) == ["0-histogram"]
    vector = hs.panel(captured(net, images[:1], "4"))
    with torch.no_grad():
        answer = net(images[:1])[0].numpy()
    np.testing.assert_allclose(np.asarray(graphs(vector)["0-bars"].data[0].y, float), answer, rtol=1e-6)


def test_ids_are_its_own(net: nn.Module) -> None:
    seen = captured(net, torch.rand(1, 3, 10, 12), "0", "1")
    found = [[each.id for each in parts(hs.panel(seen)) if getattr(each, "id", None)] for _ in range(2)]
    both = found[0] + found[1]
    assert len(set(both)) == len(both) == 14
    named = hs.panel(seen, name="mine")
    assert named.id == "mine" and {each.id for each in parts(named) if isinstance(each, dcc.Graph)} == {
        *("mine-0-wall", "mine-0-histogram", "mine-1-wall", "mine-1-histogram")
    }
    assert "/picture/" not in to_json_plotly(named)


@pytest.mark.parametrize(
    ("what", "how", "said"),
    [
        ("dict", {}, "A panel shows what hs.capture gave, and this is a dict"),
        ("empty", {}, "Nothing was captured"),
        ("many", {}, "25 values were captured, and a panel shows at most 24"),
        ("one", {"rank": "difference"}, "rank cannot be 'difference'"),
        ("one", {"size": 3}, "There is no choice 'size'"),
    ],
)
def test_bad_input_is_a_sentence(net: nn.Module, what: str, how: dict[str, Any], said: str) -> None:
    image = torch.rand(1, 3, 10, 12)
    with hs.capture(net, ["0"]) as empty:
        pass
    many = nn.Sequential(*(nn.ReLU() for _ in range(25)))
    given: dict[str, Any] = {"dict": {}, "empty": empty, "one": captured(net, image, "0")}
    given["many"] = captured(many, image, ":ReLU")
    with pytest.raises(NotShown, match=said):
        hs.panel(given[what], **how)


APP = """
import sys, torch, dash, hookscope as hs
from dash import html, Input, Output
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
                          torch.nn.Flatten(), torch.nn.Linear(8, 4)).eval()
with hs.capture(net, ["0", "4"]) as seen, torch.no_grad():
    net(torch.rand(1, 3, 20, 24))
app = dash.Dash()
app.layout = html.Div([html.H1("My own page"), hs.panel(seen, name="mine"), hs.panel(seen), html.P(id="clicked")])

@app.callback(Output("clicked", "children"), Input("mine-0-wall", "clickData"), prevent_initial_call=True)
def clicked(data):
    return f"clicked {data['points'][0]['z']:.0f}"

app.run(host="127.0.0.1", port=int(sys.argv[1]))
"""


@pytest.mark.browser
def test_in_an_application_of_ones_own(page: Page, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(APP, encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "own.py", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRON, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            with socket.socket() as wanted:
                return wanted.connect_ex(("127.0.0.1", port)) == 0

        until(answers, 60)
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#mine-0-wall .js-plotly-plot .nsewdrag", timeout=60_000)
        assert page.locator("h1").inner_text() == "My own page"
        until(lambda: page.locator(".js-plotly-plot").count() == 8)
        picture = page.locator("#mine-0-wall .imagelayer image")
        assert picture.count() == 1
        assert (picture.get_attribute("href") or picture.get_attribute("xlink:href") or "").startswith("data:image/png")
        box = page.locator("#mine-0-wall .nsewdrag").first.bounding_box()
        assert box is not None and box["width"] > 300 and box["height"] > 100
        # the third cell is the second channel; a callback of the person's own hears of the click
        page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.2)
        until(lambda: page.locator("#clicked").inner_text().startswith("clicked "))
        assert not page.locator("#mine-0-numbers").inner_text().startswith("NaN")
    finally:
        process.terminate()
        process.wait(20)
