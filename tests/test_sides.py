"""A and B, each a picture in a model of its own, prepared in a way of its own: every number against torch's own."""

from __future__ import annotations

import io
import itertools
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from inline_app import until
from own_page import Page, array, opened, operators_folder, texts
from PIL import Image
from tempo import limit
from torchvision.transforms import InterpolationMode

from hookscope.dashboard.asking.questions import ActivationOf, PredictionOf, Unit
from hookscope.dashboard.asking.sides import ASPECTS, Preparation, Side
from hookscope.dashboard.engine.base import Preprocessing
from hookscope.dashboard.inputs.rows import Exact
from hookscope.dashboard.settings.table import Settings
from hookscope.dashboard.sources.preprocessing import PreparationError, Preprocessor
from hookscope.dashboard.sources.presets import plain
from hookscope.dashboard.web.server import _view_of
from hookscope.dashboard.web.shares import Shares
from hookscope.hooks.results.codec import decode
from hookscope.hooks.results.looks import Activation, Prediction

MEAN, STD = (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)
NETS = f"""
    import torch
    from torch import nn

    def build(channels, classes, seed):
        own = torch.Generator().manual_seed(seed)
        net = nn.Sequential()
        net.body = nn.Conv2d(3, channels, 3)
        net.pool = nn.AdaptiveAvgPool2d(1)
        net.flat = nn.Flatten()
        net.head = nn.Linear(channels, len(classes))
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own))
        settings = dict(input_size=12, resize=16, mean={MEAN}, std={STD}, classes=classes, title="Small")
        return net.eval(), settings

    def small(seed=3):
        return build(4, ["cat", "dog", "cup"], seed)

    def wide():
        return build(9, ["dog", "cup", "tree", "cat"], 5)

    def other():
        own = torch.Generator().manual_seed(7)
        body = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)]
        net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own))
        settings = dict(input_size=12, resize=16, mean={MEAN}, std={STD}, classes=["yes", "no"], title="Other")
        return net.eval(), settings
"""
MODELS = ("sides_net:small", "wide=sides_net:wide", "new=sides_net:small", "sides_net:other")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The operator's current directory."""
    with operators_folder(tmp_path_factory.mktemp("sides"), sides_net=NETS) as path:
        yield path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("page"), *MODELS) as made:
        yield made


def picture(size: tuple[int, int] = (30, 20)) -> Image.Image:
    """Of no symmetry, and larger than the models want it."""
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8))


def given(page: Page) -> str:
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    return page.inputs.receive(io.BytesIO(buffer.getvalue()), None, "noise.png").key


def tensor_of(image: Image.Image, mean: Any = MEAN, std: Any = STD) -> torch.Tensor:
    """float32 (1, 3, height, width) of what the network receives, by hand."""
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    return (values - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def by_hand(text: str, resize: int = 16, crop: int = 12) -> torch.Tensor:
    """What a preparation gives of `picture()`, with Pillow's own operations."""
    image = picture()
    names = text.split(",")
    if "spread" in names:
        values = np.asarray(image).astype(np.float32)
        low, high = values.min(), values.max()
        exact = torch.from_numpy((values - low) / (high - low)).permute(2, 0, 1)[None]
        exact = torch.nn.functional.interpolate(exact, (16, 24), mode="bilinear", antialias=True)[:, :, 2:14, 6:18]
        return (exact - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    how = next((getattr(Image.Resampling, name.upper()) for name in names if name in INTERPOLATIONS), None)
    how = Image.Resampling.BILINEAR if how is None else how
    if sized := next((name for name in names if name[:1].isdigit()), ""):
        return by_hand_sized(image, *map(int, sized.split("x")), "padded" in names, how)
    ratio = {"smaller": 0.5, "larger": 2}.get(next(iter({"smaller", "larger"} & {*names}), ""), 1)
    resize, crop = round(resize * ratio), round(crop * ratio)
    if "squeezed" in names:
        image = image.resize((crop, crop), how)
    elif "padded" in names:
        small = image.resize((crop, round(image.height * crop / image.width)), how)
        image = Image.new("RGB", (crop, crop))
        image.paste(small, (0, (crop - small.height) // 2))
    else:
        width, height = int(resize * image.width / image.height), resize
        image = image.resize((width, height), how)
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    if "bgr" in names:
        image = Image.fromarray(np.asarray(image)[:, :, ::-1].copy())
    if "grey" in names:
        image = image.convert("L").convert("RGB")
    if "twice" in names:
        once = tensor_of(image)
        return (once - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    values = {
        "symmetric": ((0.5,) * 3, (0.5,) * 3),
        "unit": ((0.0,) * 3, (1.0,) * 3),
        "bytes": ((0.0,) * 3, (1 / 255,) * 3),
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    }
    return tensor_of(image, *next((values[name] for name in names if name in values), (MEAN, STD)))


def by_hand_sized(image: Image.Image, height: int, width: int, padded: bool, how: Image.Resampling) -> torch.Tensor:
    """In a size that was asked for: the shorter side in the proportion that 16 is of 12, or black around."""
    if padded:
        ratio = min(height / image.height, width / image.width)
        small = image.resize((round(image.width * ratio), round(image.height * ratio)), how)
        image = Image.new("RGB", (width, height))
        image.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
        return tensor_of(image, MEAN, STD)
    shorter = round(16 * max(height, width) / 12)
    image = image.resize((int(shorter * image.width / image.height), shorter), how)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return tensor_of(image.crop((left, top, left + width, top + height)), MEAN, STD)


INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
WAYS = [choice for choices in ASPECTS.values() for choice in choices if choice != "own"]
MIXED = [
    "16x9",
    "8x8,padded,nearest",
    "bgr,bytes",
    "grey,twice,squeezed",
    "larger,nearest,unit",
    "smaller,lanczos,bgr,symmetric",
]


# --- how a picture is prepared


@pytest.mark.parametrize("text", ["", *WAYS, *MIXED])
def test_a_picture_is_prepared_as_by_hand(text: str) -> None:
    own = plain((12, 12), 16, "bilinear", MEAN, STD)
    prepared = own.otherwise(Preparation.read(text))(picture())
    np.testing.assert_allclose(prepared.tensor.numpy(), by_hand(text).numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("interpolation", [mode.value for mode in InterpolationMode if mode.value != "nearest-exact"])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_numbers_that_are_kept_are_resized_as_pillow_resizes_a_picture_of_them(
    fit: Literal["crop", "pad", "squash"], interpolation: str
) -> None:
    """Smooth numbers, of which Lanczos does not leave the range that a picture of bytes has."""
    down, across = np.mgrid[0:20, 0:30]
    smooth = [np.sin(down / 5) * np.cos(across / 7), np.cos(down / 9), np.sin(across / 4)]
    levels = (127 + 90 * np.stack(smooth, -1)).round().astype(np.uint8)
    model = plain((12, 12), 16, interpolation, (0.0,), (1.0,), fit)
    right = model(Image.fromarray(levels)).tensor
    found = model(Image.fromarray(levels), Exact(levels.astype(np.float32) * 257, 0, 65535)).tensor
    np.testing.assert_allclose(found.numpy(), right.numpy(), atol=1.01 / 255)


def test_where_the_picture_lies_in_the_original_is_followed() -> None:
    own = plain((12, 12), 16, "bilinear", MEAN, STD)
    assert own.otherwise(Preparation(size="squeezed"))(picture()).crop == (0, 0, 30, 20)
    plainly, doubled = (own.otherwise(Preparation.read(each))(picture()).crop for each in ("", "larger"))
    assert doubled == pytest.approx(plainly, abs=1)
    assert own.otherwise(Preparation(channels="bgr"))(picture()).crop == plainly


def test_a_model_that_resizes_by_itself_says_that_it_takes_no_other_size() -> None:
    detector = Preprocessor((), Preprocessing(0, (0, 0), "bilinear", (0.0,) * 3, (1.0,) * 3))
    for name in ("squeezed", "smaller", "nearest"):
        with pytest.raises(PreparationError, match=r"in their own size, .* Choose other values or channels\."):
            detector.otherwise(Preparation.read(name))
    assert detector.otherwise(Preparation(channels="bgr"))(picture()).pixels[0, 0].tolist() == [
        *reversed(np.asarray(picture())[0, 0].tolist())
    ]


@pytest.mark.parametrize("text", ["bgr", "unit,squeezed"])
def test_b_is_the_same_picture_prepared_otherwise(page: Page, text: str) -> None:
    key = given(page)
    net = page.net("sides_net:small")
    with torch.no_grad():
        ours, theirs = (net[:1](by_hand(each))[0].double().numpy() for each in ("", text))
        logits = net(by_hand(text))[0]
    shown = page.shows(a=key, b=key, prepare_b=text, layers=["body"], detail="body", channel=1)
    assert f"prepare_b={text.replace(',', '%2C')}" in page.query
    maps = [array(each["z"]) for each in shown["detail-figure"]["figure"]["data"] if each["type"] == "heatmap"]
    for found, oracle in zip(maps, (ours[1], theirs[1], theirs[1] - ours[1]), strict=True):
        np.testing.assert_allclose(found, oracle, rtol=1e-3, atol=1e-4)
    words = Preparation.read(text).text
    assert f"B prepared: {words}" in texts(shown["card-head 0"]) and words in texts(shown["input-b-caption"])
    assert words not in texts(shown["input-a-caption"])
    best = ["cat", "dog", "cup"][int(logits.argmax())]
    assert texts(shown["input-b-top"]).split("class ")[1].startswith(best)
    saved = page.client.get(shown["export-view"]["href"]).get_data(as_text=True)
    assert f"B prepared: {words}" in saved


# --- another model


def test_layers_that_b_lacks_or_has_in_another_width(page: Page) -> None:
    key = given(page)
    with torch.no_grad():
        wide = page.net("sides_net:wide")[:1](by_hand(""))[0].double().numpy()
    shown = page.shows(a=key, b=key, model_b="wide", layers=["body"], detail="body", channel=6, scale="channel")
    assert "4 of 4 channels, by index" in texts(shown["card-labels 0"])
    assert "9 of 9 channels, by index" in texts(shown["card-labels 0"]) and "sizes differ" in texts(shown)
    (only,) = [array(each["z"]) for each in shown["detail-figure"]["figure"]["data"] if each["type"] == "heatmap"]
    np.testing.assert_allclose(only, wide[6], rtol=1e-3, atol=1e-4)  # a channel that A has not
    channels = [
        array(each["z"])
        for each in shown["card-wall 0"]["figure"]["data"]
        if each["type"] == "heatmap" and np.size(array(each["z"])) > 1
    ]
    counts = [int(np.isfinite(each).sum()) for each in channels]
    assert counts == [4, 9]
    gone = page.shows(a=key, b=key, model_b="sides_net:other", layers=["nowhere"])
    assert "Small and Other have no layer 'nowhere'" in texts(gone["card-labels 0"])


def said_of(head: dict[str, Any]) -> str:
    return " ".join(texts(head).split())


def test_a_layer_that_a_model_lacks_stands_beside_the_one_in_its_place_or_another_that_is_chosen(page: Page) -> None:
    key = given(page)
    two = {"a": key, "b": key, "model_b": "sides_net:other"}
    shown = page.shows(**two, layers=["body", "1", "3"], detail="body", channel=2)
    assert "B: span mono 0 , by depth and stride" in said_of(shown["card-head 0"])
    assert "A: span mono body , by depth and stride" in said_of(shown["card-head 1"])
    assert "A: span mono flat , by depth and stride" in said_of(shown["card-head 2"])
    other = page.net("sides_net:other")
    with torch.no_grad():
        first = other[:1](by_hand(""))[0].double().numpy()
        second = other[:2](by_hand(""))[0].double().numpy()
    maps = [array(each["z"]) for each in shown["detail-figure"]["figure"]["data"] if each["type"] == "heatmap"]
    np.testing.assert_allclose(maps[1], first[2], rtol=1e-3, atol=1e-4)
    chosen = page.shows(**two, layers=["body"], detail="body", channel=2, matched="body=1")
    assert "matched=body%3D1" in page.query and "B: span mono 1 , chosen" in said_of(chosen["card-head 0"])
    maps = [array(each["z"]) for each in chosen["detail-figure"]["figure"]["data"] if each["type"] == "heatmap"]
    np.testing.assert_allclose(maps[1], second[2], rtol=1e-3, atol=1e-4)
    wrong = page.shows(**two, layers=["body"], matched="body=nowhere")
    assert "B: span mono 0 , by depth and stride" in said_of(wrong["card-head 0"])


def test_classes_belong_to_a_side_where_the_models_answer_other_ones(page: Page) -> None:
    key = given(page)
    same = page.shows(a=key, b=key, model_b="new", layers=["body"], target="2")
    assert texts(same["card-cam-text 0"]).count("cup") == 2 and '"target"' in str(same["input-b-top"]).replace("'", '"')
    apart = page.shows(a=key, b=key, model_b="wide", layers=["body"], target="2", target_b="2")
    said = texts(apart["card-cam-text 0"])
    assert "cup" in said and "tree" in said  # class 2 of each
    assert "target_b" in str(apart["input-b-top"]) and "target_b" not in str(apart["input-a-top"])
    answer = page.client.post("/ask", json=question(page, a=key, b=key, model_b="wide", target_b="3")).get_json()
    assert answer["changes"] == {} and answer["targets"] == "target"
    other = question(page, a=key, b=key, model_b="wide", side="b", target="3", target_b="4")
    answer = page.client.post("/ask", json=other).get_json()
    assert answer["changes"] == {"target": "", "target_b": ""} and answer["targets"] == "target_b"


def question(page: Page, **view: Any) -> dict[str, Any]:
    page._number += 1
    return {
        "view": {"model": page.models[0], **view},
        "page": "sides",
        "number": page._number,
        "drawn": {},
        "mounted": 0,
        "width": 600,
    }


def test_the_tree_and_its_bars_are_about_the_side_that_was_chosen(page: Page) -> None:
    key = given(page)
    chosen = {"a": key, "b": key, "model_b": "wide", "metric": "magnitude"}
    first, second = (page.shows(**chosen, side=side)["metric-text"] for side in ("a", "b"))
    assert texts(first).split("A:")[1] != texts(second).split("B:")[1]


def test_a_model_that_is_not_offered_is_told_and_the_other_side_stays(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path, models=MODELS)
    shares = Shares(tmp_path)
    found, notice = _view_of("?model=new&model_b=gone&a=x", settings.names, shares)
    assert (found.model, found.model_b) == ("new", "") and "'gone'" in notice and "wide, new" in notice
    found, notice = _view_of("?model=new&model_b=wide&a=x", settings.names, shares)
    assert (found.model, found.model_b, notice) == ("new", "wide", "")


# --- many at once


def test_twenty_people_with_other_models_and_preparations_get_what_each_gets_alone(page: Page) -> None:
    """Answers, not pictures of them: every unit's result against torch on the same tensor."""
    digest = page.inputs.get(given(page)).digest
    nets = {"sides_net:small": "small", "wide": "wide", "new": "small", "sides_net:other": "other"}
    layers = {"sides_net:other": "1"}
    ways = ["", "bgr", "squeezed", "bytes,grey", "twice"]
    people = list(itertools.product(nets, ways))
    assert len(people) == 20
    wrong: list[str] = []

    def person(number: int) -> None:
        model, way = people[number]
        side = Side(model, digest, Preparation.read(way))
        layer = layers.get(model, "body")
        units = [Unit(side, PredictionOf()), Unit(side, ActivationOf(layer))]
        random.Random(number).shuffle(units)
        slot = f"person {number}"
        page.engine.submit(slot, units, page.inputs.pixels)
        events: list[Any] = []
        until(
            lambda: (
                events.extend(page.engine.events(slot, len(events), 0.2)[0])
                or (events[-1:][0:] and events[-1].kind == "end")
            ),
            60,
        )
        net = page.net(f"sides_net:{nets[model]}")
        place = [name for name, _ in net.named_children()].index(layer) + 1
        with torch.no_grad():
            oracle = {"": net(by_hand(way))[0], layer: net[:place](by_hand(way))[0]}
        for event in events:
            if event.kind == "failed":
                wrong.append(f"{people[number]}: {event.sentence}")
            if event.kind == "done":
                result = decode(event.data, Prediction, Activation)
                values = result.scores.logits if isinstance(result, Prediction) else result.values
                if not np.allclose(values, oracle[event.unit.layer].numpy(), rtol=1e-3, atol=1e-3):
                    wrong.append(f"{people[number]}: {event.unit}")
        if sum(event.kind == "done" for event in events) != 2:
            wrong.append(f"{people[number]}: {[event.kind for event in events]}")

    threads = [threading.Thread(target=person, args=(number,)) for number in range(len(people))]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert time.monotonic() - begun < limit(30)
