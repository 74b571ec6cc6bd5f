"""What `hs.show` and `hs.panel` are given: grey pictures for a model of one channel, and sentences for what is none."""

from __future__ import annotations

import io
import json
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch
from helpers import assert_untouched
from PIL import Image
from torch import Tensor, nn

import hookscope as hs
from hookscope.dashboard.notebook.greys import takes_grey
from hookscope.dashboard.notebook.walls import NotShown

NAN = float("nan")


def net(channels: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()


def photograph() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8))


class Rows(nn.Module):
    """Makes a row of a picture, in one of the ways of tutorials."""

    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.way, self.full = way, nn.Linear(120, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.full(self.way(x))
        return found


# --- a model of one channel


@pytest.mark.parametrize("given", ["colours", "grey", "array", "array of one channel", "file"])
def test_a_photograph_becomes_grey_for_a_model_of_one_channel(given: str, tmp_path: Path) -> None:
    colours = photograph()
    grey = colours.convert("L")
    colours.save(tmp_path / "photograph.png")
    image = {
        "colours": colours,
        "grey": grey,
        "array": np.asarray(grey),
        "array of one channel": np.asarray(grey)[:, :, None],
        "file": tmp_path / "photograph.png",
    }[given]
    model = net(1)
    with assert_untouched(model):
        shown = hs.show(model, image, ["0"], mean=0.1307, std=0.3081)
    values = (torch.from_numpy(np.array(grey))[None, None].float() / 255 - 0.1307) / 0.3081
    (layer,) = shown.seen.layers
    assert not isinstance(layer.activation, str)
    np.testing.assert_allclose(layer.activation.values, model[0](values)[0].detach().numpy(), rtol=1e-5, atol=1e-6)
    assert "takes one channel: the picture was made grey" in shown.to_html()
    np.testing.assert_array_equal(shown.seen.picture, np.asarray(grey)[:, :, None].repeat(3, 2))
    assert hs.show(net(), colours, ["0"], mean=0.5, std=0.5).seen.picture_note == ""


def test_the_page_makes_it_as_grey_as_the_cell_has_it() -> None:
    model = net(1)
    shown = hs.show(model, photograph(), ["0"], mean=(0.5, 0.5, 0.5), std=0.25)
    url = shown.open(browser=False)
    try:
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        request = urllib.request.Request(
            f"http://{parts.netloc}/api/v1/layer?input={query['a']}&layer=0&wait=60",
            headers={"Authorization": f"Bearer {query['token']}"},
        )
        with urllib.request.urlopen(request, timeout=90) as answer:
            numbers = json.load(answer)["numbers"]
    finally:
        shown.close()
    found = shown.seen.layers[0].activation
    assert not isinstance(found, str)
    assert numbers["mean"] == pytest.approx(found.statistics.mean, rel=1e-4)
    assert numbers["std"] == pytest.approx(found.statistics.std, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "grey"),
    [
        (net(1), True),
        (net(3), False),
        (nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)), True),
        (nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 2, 3)), False),
        (Rows(lambda x: x.view(-1, 120)), True),
        (Rows(lambda x: x.reshape(len(x), 120)), True),
        (Rows(lambda x: x.flatten(1)), True),
        (Rows(lambda x: x.flatten(2)), False),  # a row of each channel
        (nn.Sequential(nn.Flatten(), nn.Linear(360, 2)), False),
        (nn.Sequential(nn.ReLU()), False),
    ],
)
def test_which_models_take_grey(model: nn.Module, grey: bool) -> None:
    with assert_untouched(model):
        assert takes_grey(model, 12, 10) == grey
    assert takes_grey(nn.DataParallel(model), 12, 10) == grey
    if grey:
        assert takes_grey(model.double(), 12, 10)


def test_three_different_means_are_none_of_a_grey_picture() -> None:
    with pytest.raises(NotShown, match="mean= has 3 numbers, and the picture has 1 channels"):
        hs.show(net(1), photograph(), ["0"], mean=(0.4, 0.5, 0.6), std=1.0)


# --- what is none


def _quantised() -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        found: Tensor = torch.quantize_per_tensor(torch.rand(3, 8, 8), 0.1, 0, torch.quint8)
    return found


def _cut_short() -> Image.Image:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:900]))


def _nested() -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.nested.nested_tensor([torch.rand(3, 8, 8), torch.rand(3, 8, 9)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": "²"}, "count cannot be '²'. Choose one of"),
        ({"count": "½"}, "count cannot be '½'. Choose one of"),
        *(
            ({name: value, other: 0.5}, f"{name}= is .*\\. Give a finite number, or one for each channel\\.")
            for name, other in (("mean", "std"), ("std", "mean"))
            for value in (
                "x",
                {},
                [],
                [NAN] * 3,
                float("inf"),
                True,
                [None],
                1j,
                object(),
                torch.empty(3, device="meta"),
            )
        ),
        ({"mean": 0.5}, "one of them is missing: give both, or neither"),
        ({"std": 0.5}, "one of them is missing: give both, or neither"),
        ({"mean": 0.5, "prepare": lambda x: x}, "one of them is missing: give both, or neither"),
        ({"image": torch.empty(3, 8, 8, device="meta")}, "a tensor without values: it lies on the device meta"),
        ({"image": torch.rand(3, 8, 8).to_sparse()}, r"a tensor that is sparse: give image\.to_dense\(\)"),
        ({"image": _quantised()}, r"of quantised numbers: give image\.dequantize\(\)"),
        ({"image": _nested()}, r"of several sizes \(nested\): give one picture of it, image\.unbind\(\)\[0\]"),
        ({"prepare": lambda _: torch.rand(3, 8, 8).to_sparse()}, "that is sparse"),
        (
            {"image": _cut_short(), "mean": 0.5, "std": 0.5},
            r"Red, green and blue cannot .*mode RGB\): OSError.*Give a tensor",
        ),
        (
            {"image": torch.rand(3, 8, 8).double()},
            r"could not be run .* of float64, and the model's weights are of float32: give image\.to\(torch\.float32\)",
        ),
        (
            {"model": net().bfloat16()},
            r"of float32, and the model's weights are of bfloat16: give image\.to\(torch\.bf",
        ),
        (
            {"model": net().double()},
            r"of float32, and the model's weights are of float64: give image\.to\(torch\.float64",
        ),
    ],
)
def test_what_is_no_picture_and_no_choice_is_a_sentence(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"model": net(), "image": torch.rand(3, 8, 8), "layers": ["0"]} | change
    with pytest.raises(NotShown, match=said):
        hs.show(given.pop("model"), given.pop("image"), given.pop("layers"), **given)
    assert not hs.live_hooks()


@pytest.mark.parametrize("values", [torch.tensor([0.5] * 3), np.full(3, 0.5), [0.5] * 3, 0.5, np.float32(0.5)])
def test_ways_to_give_mean_and_std(values: Any) -> None:
    shown = hs.show(net(), photograph(), ["0"], mean=values, std=values)
    np.testing.assert_array_equal(shown.seen.picture, np.asarray(photograph()))


@pytest.mark.parametrize(
    "mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "HSV", "PA", "RGBX", "La", "RGBa"]
)
def test_a_picture_of_every_mode_that_pillow_makes_colours_of(mode: str) -> None:
    assert hs.show(net(), Image.new(mode, (9, 8)), ["0"], mean=0.5, std=0.5).seen.shape == (1, 3, 8, 9)


@pytest.mark.parametrize("path", [None, 3, b"view.html", "a\0b", ["view.html"]])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(NotShown, match="A file's path is needed, and this is "):
        hs.show(net(), torch.rand(3, 8, 8), ["0"]).save(path)


# --- a panel


def captured(make: Callable[[Tensor], Tensor], images: int = 1) -> Any:
    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.inner(make(x))
            return found

    model = Made()
    with hs.capture(model, ["inner"]) as seen, torch.no_grad():
        model(torch.rand(images, 3, 4, 4))
    return seen


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        *(({"image": each}, "image= is .* index of one of a batch") for each in (None, "0", 1.0, True, [0])),
        ({"image": 2}, "There is no image 2: 2 were captured"),
        ({"image": -1}, "There is no image -1"),
        *(({"layers": each}, r"layers= is what hs\.describe") for each in (3, ["inner"], net())),
        ({"name": 3}, "name= is 3. Give a text"),
    ],
)
def test_choices_of_a_panel_that_are_none(choice: dict[str, Any], said: str) -> None:
    with pytest.raises(NotShown, match=said):
        hs.panel(captured(lambda x: x, 2), **choice)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[:0],
        lambda x: x[:0].flatten(1),
        lambda x: x.flatten()[:0],
        lambda x: x[:, :0],
        lambda x: x[:, :, :0],
    ],
)
def test_a_panel_of_nothing(make: Callable[[Tensor], Tensor]) -> None:
    assert hs.panel(captured(make), layers=None, name=None) is not None  # type: ignore[arg-type]


def test_a_panel_of_numbers_that_are_kept_otherwise() -> None:
    dense = hs.panel(captured(lambda x: x[:, 0, 0]), name="one").to_plotly_json()
    sparse = hs.panel(captured(lambda x: x[:, 0, 0].to_sparse()), name="one")
    assert len(sparse.to_plotly_json()["props"]["children"]) == len(dense["props"]["children"])
    with warnings.catch_warnings(action="ignore"):
        assert hs.panel(captured(lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)))
