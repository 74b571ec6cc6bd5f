"""`hs.open_model`: the page's models, and its ways with pictures, in a program."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import ENVIRON
from digits_models import digits, file_of, write_module
from PIL import Image

import hookscope as hs
from hookscope.dashboard.asking.sides import Preparation
from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.opening import OpenModel
from hookscope.dashboard.sources.preprocessing import open_exact, open_pixels
from hookscope.dashboard.unopened import NotOpened, read_preparation

COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of digits, and a folder of pictures by class, one of which is none."""
    made = tmp_path_factory.mktemp("opening")
    write_module(made)
    pictures, classes = digits()
    for number in range(COUNT):
        place = made / "set" / str(int(classes[number]))
        place.mkdir(parents=True, exist_ok=True)
        file_of(pictures[number], place / f"{number}.png")
    (made / "set" / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return made


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[OpenModel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield hs.open_model("digits_net:whole", device="cpu")


def test_it_is_the_module_with_its_classes_and_layers(opened: OpenModel) -> None:
    assert opened.classes == tuple("0123456789") and not opened.module.training
    assert {"conv1", "fc"} <= {each.name for each in opened.layers}
    assert "read as softmax" in opened.describe() and "digits_net:whole" in repr(opened)


def test_a_file_is_prepared_as_an_upload_is(opened: OpenModel, tmp_path: Path) -> None:
    """Against the store and the worker's own steps: a turned JPEG, 16 bits, transparency, an array."""
    draw = np.random.default_rng(0)
    colours = Image.fromarray(draw.integers(0, 256, (20, 30, 3), np.uint8))
    turned, see_through = Image.Exif(), colours.convert("RGBA")
    turned[0x0112] = 6
    see_through.putalpha(Image.fromarray(draw.integers(0, 256, (20, 30), np.uint8)))
    colours.save(tmp_path / "turned.jpg", exif=turned)
    see_through.save(tmp_path / "through.png")
    Image.fromarray(draw.integers(100, 4000, (20, 30), np.uint16)).save(tmp_path / "deep.png")
    np.save(tmp_path / "floats.npy", draw.random((3, 18, 24)).astype(np.float32))
    store = InputStore(tmp_path / "store", 2**26)
    try:
        for name in ("turned.jpg", "through.png", "deep.png", "floats.npy"):
            kept = store.pixels(store.adopt(tmp_path / name, name).digest)
            for way in ("", "bgr,unit", "spread"):
                prepare = opened._loaded.prepare.otherwise(Preparation.read(way))
                expected = prepare(open_pixels(kept), open_exact(kept)).tensor
                assert torch.equal(opened.prepare(tmp_path / name, way), expected), (name, way)
        assert rows.exact(store.pixels(store.adopt(tmp_path / "deep.png", "x").digest)) is not None
    finally:
        store.close()
    held = io.BytesIO()
    colours.save(held, "PNG")
    (tmp_path / "plain.png").write_bytes(held.getvalue())
    assert torch.equal(opened.prepare(colours), opened.prepare(tmp_path / "plain.png"))
    array = np.load(tmp_path / "floats.npy")
    assert torch.equal(opened.prepare(array), opened.prepare(str(tmp_path / "floats.npy")))


def test_what_it_answers_is_the_networks_own(opened: OpenModel) -> None:
    picture = digits()[0][:1]
    with torch.no_grad():
        logits = opened.module(picture)[0]
    shares = logits.softmax(0)
    best = int(shares.argmax())
    assert opened.top(picture, 1) == [(str(best), pytest.approx(float(shares[best]), rel=1e-6))]
    assert np.allclose(opened.predict(picture).logits, logits.numpy(), rtol=1e-6)
    with opened.looking(reads="sigmoid"):
        assert opened.top(picture, 1)[0][1] == pytest.approx(float(logits.sigmoid().max()), rel=1e-6)
    found = opened.activation(picture, "conv1")
    with torch.no_grad():
        conv = opened.module.get_submodule("conv1")(picture)
    assert np.allclose(found.values, conv[0].numpy(), atol=1e-6)
    with pytest.raises(hs.HooksError, match="no layer 'conv9'"):
        opened.activation(picture, "conv9")
    with pytest.raises(NotOpened, match="no boxes"):
        opened.detect(picture)


def test_a_detector_is_asked_for_boxes() -> None:
    model = hs.open_model("recorded_models:detector", device="cpu")
    picture = model.prepare(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))
    with torch.no_grad():
        (expected,) = model.module(picture)
    with model.looking():
        found = model.detect(picture)
    assert len(found.scores) and np.allclose(found.scores, expected["scores"].numpy())
    assert np.allclose(found.boxes, expected["boxes"].numpy(), atol=1e-4)


def test_a_folder_is_gone_through_as_often_as_one_likes(opened: OpenModel, folder: Path) -> None:
    pictures = opened.folder(folder / "set", batch=4)
    once, again = list(pictures), list(pictures)
    assert [len(tensor) for tensor, _ in once] == [4, 2] and len(pictures.names) == COUNT + 1
    assert all(torch.equal(one[0], other[0]) and one[1] == other[1] for one, other in zip(once, again, strict=True))
    labels = [label for _, some in once for label in some]
    assert labels == [int(name.split("/")[0]) for name in pictures.read]
    assert list(pictures.refused) == ["0/broken.png"] and "damaged" in pictures.refused["0/broken.png"]
    by_name = dict(zip(pictures.read, torch.cat([tensor for tensor, _ in once]), strict=True))
    known = digits()[0]
    for name, tensor in by_name.items():
        assert torch.allclose(tensor, known[int(Path(name).stem)], atol=1e-6)
    unit = torch.cat([tensor for tensor, _ in pictures.otherwise("unit")])
    assert torch.allclose(unit, torch.cat([tensor for tensor, _ in once]) / 2 + 0.5, atol=1e-6)
    assert sum(len(tensor) for tensor, _ in opened.folder(folder / "set", most=2)) == 2
    turns = opened.folder(folder / "set", in_turns=True)
    first = [name.split("/")[0] for name in turns.names[: len(set(labels))]]
    assert len(set(first)) == len(first), "one of each class before the second of any"
    assert hs.sweep(opened.module, pictures, [hs.answers()], described=opened.layers).answers is not None
    (few,) = opened.folder("", most=3)
    assert few[0].shape == (3, 3, 16, 16) and few[1] == [-1, -1, -1]
    assert opened.check(pictures).pictures == COUNT


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda m, p: hs.open_model("resnet18"), "names no model.*perhaps torchvision:resnet18 or timm:resnet18"),
        (lambda m, p: hs.open_model("embedded", wieghts="x"), "no option 'wieghts'. Did you mean weights?"),
        (lambda m, p: m.prepare(p / "none.png"), "There is no file '.*none.png'"),
        (lambda m, p: m.prepare(p / "text.png"), "cannot be read. This is not a picture"),
        (lambda m, p: m.prepare(7), "and this is a int"),
        (lambda m, p: m.prepare(p / "text.png", "bgrr"), "'bgrr' is no way"),
        (lambda m, p: m.folder(p / "nowhere"), "The folder '.*nowhere' cannot be read"),
        (lambda m, p: m.folder(p), "There is no picture in the folder"),
    ],
)
def test_what_is_refused_says_what_to_do(ask: object, sentence: str, opened: OpenModel, tmp_path: Path) -> None:
    if "no picture" not in sentence or "folder" not in sentence:
        (tmp_path / "text.png").write_text("words")
    with pytest.raises(NotOpened, match=sentence):
        ask(opened, tmp_path)  # type: ignore[operator]


def test_options_are_the_programs_flags() -> None:
    model = hs.open_model("torchvision:resnet18@random", device="cpu", mean=0.5, std=[0.25, 0.5, 1], input_size=64)
    ways = model._loaded.info.preprocessing
    assert ways.mean == (0.5, 0.5, 0.5) and ways.std == (0.25, 0.5, 1.0)
    grey = model.prepare(Image.new("RGB", (80, 70), (255, 255, 255)))
    assert grey.shape == (1, 3, 64, 64) and grey[0, :, 0, 0].tolist() == [2.0, 1.0, 0.5]
    assert model.describe().count("Random weights") == 1
    assert read_preparation("own").write() == "" and read_preparation("320x240").write() == "320x240"


def test_without_the_packages_it_says_which() -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import hookscope as hs\n"
        "try: hs.open_model('embedded')\n"
        "except hs.HooksError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True)
    assert "needs torchvision" in ran.stdout and "pip install 'hookscope[check]'" in ran.stdout
