"""A model of two pictures: given both, each layer's values, maps and pictures are of the right one; against torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from own_page import Page, opened, operators_folder, texts
from PIL import Image
from torch import Tensor, nn

from hookscope.dashboard.asking.questions import ClassMap, InputMap, PredictionOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.building import FactoryError
from hookscope.dashboard.sources.load import load
from hookscope.hooks.looks.inputs import attribute_input
from hookscope.hooks.results.looks import GradCam, InputAttribution, Prediction
from hookscope.hooks.results.targets import Class

NET = """
    import torch
    from torch import nn

    SETTINGS = {"input_size": 64, "resize": 64, "mean": 0.0, "std": 1.0, "reads": "softmax"}

    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
            self.fuse = nn.Conv2d(16, 8, 3, 1, 1)
            self.head = nn.Linear(8, 3)

        def forward(self, left, right):
            x = torch.cat([self.encoder(left), self.encoder(right)], 1)
            return self.head(torch.relu(self.fuse(x)).mean((-2, -1)))

    class Support(Siamese):
        def forward(self, x, support, scale):
            return super().forward(x, support) * scale

    def seeded(net):
        own = torch.Generator().manual_seed(3)  # several of these may be built at the same time
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own) * 0.3)
        return net.eval()

    def make():
        return seeded(Siamese()), SETTINGS

    def told():
        return seeded(Support()), SETTINGS | {"inputs": {"support": "picture", "scale": 2.0}}

    class Found(nn.Module):
        def __init__(self):
            super().__init__()
            self.see = nn.Conv2d(3, 4, 3, 2, 1)

        def forward(self, template, search):
            score = (self.see(template).mean() - self.see(search).mean()).sigmoid()
            boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0]])
            return {"boxes": boxes, "labels": torch.tensor([1]), "scores": score[None]}

    def found():
        return seeded(Found()), {k: v for k, v in SETTINGS.items() if k != "reads"}

    class Five(nn.Module):
        def __init__(self):
            super().__init__()
            self.see, self.head = nn.Conv2d(5, 4, 3, 2, 1), nn.Linear(4, 2)

        def forward(self, left, right):
            return self.head((self.see(left) - self.see(right)).mean((-2, -1)))

    def five():
        return seeded(Five()), SETTINGS

    def three():
        return Support().eval(), SETTINGS | {"inputs": {"x": "picture", "support": "picture", "scale": "picture"}}
"""
SPEC = "pair_net:make"
SECOND = ("encoder", "encoder.0", "encoder.1", "encoder.2")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("pair")
    with operators_folder(folder, pair_net=NET), opened(folder, SPEC, "pair_net:found", "pair_net:five") as made:
        yield made


@pytest.fixture(scope="module")
def pictures(page: Page) -> list[tuple[str, str, Tensor]]:
    """(key, SHA-256, float32 (1, 3, 64, 64)) of two of them."""
    found, generator = [], np.random.default_rng(3)
    for index in range(2):
        pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        given = page.inputs.receive(io.BytesIO(file.getvalue()), None, f"{'right' if index else 'left'}.png")
        found.append((given.key, given.digest, torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255))
    return found


def drawn(page: Page, shown: dict[str, Any]) -> list[bytes]:
    """The pictures of the first card's wall."""
    addresses = [image["source"] for image in shown["card-wall 0"]["figure"]["layout"]["images"]]
    return [page.client.get(address).get_data() for address in addresses]


def test_the_branch_of_the_second_picture_is_found(page: Page) -> None:
    info = page.engine.state(SPEC).info
    assert info is not None and info.pictures == ("left", "right")
    assert {*info.of_second} == {(name, 1) for name in SECOND}


def test_both_pictures_are_given_in_their_order(page: Page, pictures: list[tuple[str, str, Tensor]]) -> None:
    (a, one, left), (b, other, right) = pictures
    net = page.net(SPEC)
    orders = [(one, other, left, right), (other, one, right, left), (one, "", left, left)]
    for first, second, x, y in orders:
        found = page.answer(Unit(Side(SPEC, first, second=second), PredictionOf()), Prediction)
        with torch.no_grad():
            np.testing.assert_allclose(found.scores.logits, net(x, y)[0], atol=1e-6)
        assert (found.second is None) == (not second)
    shown = page.shows(a=a, second_a=b, layers=["encoder.2:1"], overlay=True)
    said = texts(shown["input-a-second"])
    assert "right.png" in said and "turn round" in said
    assert "sees right only" in texts(shown["card-head 0"])
    assert "is the same as" in texts(page.shows(a=a)["input-a-second"])
    assert "It is no longer kept here" in texts(page.shows(a=a, second_a="gone")["input-a-second"])
    # the wall lies over the second picture, and is that of the layer for which it is the first
    alone = page.shows(a=b, layers=["encoder.2"], overlay=True)
    assert drawn(page, shown) == drawn(page, alone)


@pytest.mark.parametrize("call", [0, 1])
def test_a_map_of_either_branch_is_that_by_hand(page: Page, pictures: list[tuple[str, str, Tensor]], call: int) -> None:
    (_, one, left), (_, other, right) = pictures
    net: Any = page.net(SPEC)
    unit = Unit(Side(SPEC, one, second=other), ClassMap("encoder.2", call, "gradcam", Class(2)))
    found = page.answer(unit, GradCam).values
    values = [net.encoder(left), net.encoder(right)]
    values[call] = values[call].detach().requires_grad_()
    logit = net.head(torch.relu(net.fuse(torch.cat(values, 1))).mean((-2, -1)))[0, 2]
    (slope,) = torch.autograd.grad(logit, values[call])
    right_one = (slope.mean((2, 3), keepdim=True) * values[call])[0].sum(0).detach()
    np.testing.assert_allclose(found, right_one, atol=1e-7)


def test_score_cam_masks_the_picture_that_the_branch_sees(page: Page, pictures: list[tuple[str, str, Tensor]]) -> None:
    (_, one, left), (_, other, right) = pictures
    net: Any = page.net(SPEC)

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, picture: Tensor) -> Any:
            return net(left.expand(len(picture), -1, -1, -1), picture)

    unit = Unit(Side(SPEC, one, second=other), ClassMap("encoder.2", 1, "scorecam", Class(1)))
    from hookscope.hooks.layers.describe import describe
    from hookscope.hooks.looks.score_cam import score_cam

    turned = Turned().eval()
    ((*_, by_hand),) = score_cam(turned, right, [("net.encoder.2", 1)], Class(1), describe(turned, right))
    assert isinstance(by_hand, GradCam)
    np.testing.assert_allclose(page.answer(unit, GradCam).values, by_hand.values, atol=1e-6)


@pytest.mark.parametrize("which", [0, 1])
def test_pixels_of_either_picture_are_asked_about(
    page: Page, pictures: list[tuple[str, str, Tensor]], which: int
) -> None:
    (_, one, left), (_, other, right) = pictures
    net = page.net(SPEC)
    side = Side(SPEC, one, second=other)
    found = page.answer(Unit(side, InputMap("saliency", Class(1), which)), InputAttribution)
    given = [left.clone(), right.clone()]
    given[which].requires_grad_()
    (slope,) = torch.autograd.grad(net(*given)[0, 1], given[which])
    np.testing.assert_allclose(found.values, slope[0].abs().amax(0), atol=1e-7)
    hidden = page.answer(Unit(side, InputMap("occlusion", Class(1), which)), InputAttribution)
    pair = lambda module, picture: module(left, picture) if which else module(picture, right)  # noqa: E731

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, picture: Tensor) -> Any:
            return torch.cat([pair(self.net, each[None]) for each in picture])

    by_hand = attribute_input(One().eval(), (left, right)[which], "occlusion", Class(1))
    np.testing.assert_allclose(hidden.values, by_hand.values, atol=1e-6)
    shown = page.shows(a=pictures[0][0], second_a=pictures[1][0], attributions=True, target="1")
    assert "left: class 1" in texts(shown["attributions"]) and "right: class 1" in texts(shown["attributions"])


def test_a_factory_says_which_parameter_is_a_picture(tmp_path_factory: pytest.TempPathFactory) -> None:
    with operators_folder(tmp_path_factory.mktemp("told"), pair_net=NET):
        model = load(ModelOptions("pair_net:told"), "cpu")
        assert model.info.pictures == ("x", "support")
        assert "The factory says that 'x' and 'support' are two pictures" in model.info.notes[0]
        left, right = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
        with torch.no_grad(), model.pair.beside(right):
            found = model.module(left)
        with torch.no_grad():
            by_hand = model.module(x=left, support=right, scale=2.0)
        torch.testing.assert_close(found, by_hand)
        with pytest.raises(FactoryError, match="gives 3 parameters a 'picture', and a side has two at most"):
            load(ModelOptions("pair_net:three"), "cpu")


def seen(page: Page, address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.client.get(address).get_data())).convert("RGB"))


def test_a_detector_of_two_pictures_has_its_maps_over_the_one_that_a_layer_sees(
    page: Page, pictures: list[tuple[str, str, Tensor]]
) -> None:
    (a, *_), (b, _, right) = pictures
    shown = page.shows(model="pair_net:found", a=a, second_a=b, layers=["see:1"], target="box:0")
    assert "score of box 0 (class 1)" in texts(shown["card-cam-text 0"])
    under = shown["card-cam 0"]["figure"]["layout"]["images"][0]["source"]
    np.testing.assert_array_equal(seen(page, under), (right[0].permute(1, 2, 0) * 255).round().byte().numpy())


def array_of(page: Page, values: np.ndarray, name: str) -> str:
    file = io.BytesIO()
    np.save(file, values)
    return page.inputs.receive(io.BytesIO(file.getvalue()), None, name).key


def test_the_second_of_arrays_is_seen_and_read_as_the_first_is(page: Page) -> None:
    generator = np.random.default_rng(8)
    one, other = (generator.integers(0, 256, (64, 64, 5), np.uint8) for _ in range(2))
    a, b = array_of(page, one, "one.npy"), array_of(page, other, "other.npy")
    shown = page.shows(model="pair_net:five", a=a, second_a=b, seen=True, shown_a="4.1.0")
    address = next(part for part in texts(shown["input-a-second"]).split() if part.startswith("/picture/"))
    np.testing.assert_array_equal(seen(page, address), other[..., [4, 1, 0]])
    # one that may be read in two ways is read by the model's channels; where that does not help, it can be chosen
    read = array_of(page, generator.integers(0, 256, (5, 15, 10), np.uint8), "read.npy")
    assert "10×15" in texts(page.shows(model="pair_net:five", a=a, second_a=read)["input-a-second"])
    asked = array_of(page, generator.integers(0, 256, (7, 20, 8), np.uint8), "asked.npy")
    shown = page.shows(model="pair_net:five", a=a, second_a=asked)
    assert "The second picture: " in texts(shown["input-a-top"]) and "axes" in texts(shown["input-a-reading"])


def test_a_program_gives_the_second_picture_by_its_key(page: Page, pictures: list[tuple[str, str, Tensor]]) -> None:
    (a, _, left), (b, _, right) = pictures
    net: Any = page.net(SPEC)

    def ask(path: str, **given: Any) -> Any:
        return page.client.get(f"/api/v1/{path}", query_string={"model": SPEC, **given})

    assert ask("model").json["pictures"] == ["left", "right"]
    for second, y in ((b, right), (None, left)):
        given = {"input": a} | ({"second": second} if second else {})
        told = ask("top", **given, k=3).json
        with torch.no_grad():
            logits = net(left, y)[0]
            values = net.encoder(y)[0].double()
        assert {row["index"]: row["logit"] for row in told["top"]} == pytest.approx(dict(enumerate(logits.tolist())))
        assert (told["input"], told["second"], told["captions"]) == (a, second, None)
        numbers = ask("layer", **given, layer="encoder.2", call=1).json["numbers"]
        assert numbers["mean"] == pytest.approx(float(values.mean()), rel=1e-5)
    shown = ask("map.json", input=a, second=b, layer="encoder.2", call=1, channel="mean").json
    with torch.no_grad():
        assert shown["numbers"]["max"] == pytest.approx(float(net.encoder(right)[0].mean(0).max()), rel=1e-5)
    cam = ask("cam.json", input=a, second=b, layer="encoder.2", call=1, **{"class": 2}).json
    found = page.answer(
        Unit(Side(SPEC, pictures[0][1], second=pictures[1][1]), ClassMap("encoder.2", 1, "gradcam", Class(2))), GradCam
    )
    assert cam["scale"]["high"] == pytest.approx(found.values.max()) and cam["second"] == b

    for given in ({"input": a, "second": "gone"}, {"input": a, "second": ""}):
        refused = ask("top", **given)
        assert refused.status_code == 404 and "no picture under this key" in refused.json["error"]
