"""A model that does not run on a picture is told by where its run ends, and the wrapper that stands there opens it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from brought_models import PLAIN, Net
from own_page import operators_folder
from torch import Tensor, nn

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.building import FactoryError
from hookscope.dashboard.sources.load import LoadedModel, load

ROWS = nn.Sequential(nn.Linear(784, 10), nn.ReLU(), nn.Linear(10, 3))
FLAT = nn.Sequential(nn.Flatten(), *ROWS)


class Of(Net):
    """A net that wants something else than one batch of pictures."""

    def __init__(self, take: Any) -> None:
        super().__init__()
        self.take = take

    def forward(self, x: Any) -> Any:
        return super().forward(self.take(x))


def bytes_only(x: Tensor) -> Tensor:
    if x.dtype != torch.uint8:
        raise TypeError(f"expected uint8 pixels, got {x.dtype}")
    return x.float() / 255


def difference(x: Any) -> Tensor:
    left, right = x
    return torch.sub(left, right)


def by_48(x: Tensor) -> Tensor:
    if x.shape[-1] % 48:
        raise ValueError("the picture's sides have to be divisible by 48")
    return x


def opened(make: Any, folder: Path, **options: Any) -> LoadedModel:
    with operators_folder(folder, unfit_net="make = None"):
        importlib.import_module("unfit_net").__dict__["make"] = make
        return load(ModelOptions("unfit_net:make", **options), "cpu")


WRAPPED = {
    "a dictionary": (lambda: Of(lambda x: x["image"]), "IndexError: .* It seems to want a dictionary"),
    "bytes": (lambda: Of(bytes_only), "TypeError: expected uint8 pixels.* It seems to want pixels as bytes"),
}
TOLD = {
    "two at once": (lambda: Of(difference), "ValueError: not enough values .* It seems to want several things at once"),
    "a picture file": (lambda: Of(lambda x: x.convert("RGB")), "AttributeError: .* something else than a tensor"),
    "a GPU": (lambda: Of(lambda x: x.cuda()), "Its code asks for a GPU by itself"),
    "words": (lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten()), r"\(in layer '0'\)\. It looks words up"),
    "other channels": (
        lambda: nn.Sequential(nn.Identity(), Of(lambda x: x[:, :2])),
        r"layer '1.conv'\)\. That layer wants 3",
    ),
    "another size": (
        lambda: Of(by_48),
        r"divisible by 48 \(in Of\.forward\(x\)\)\. If it is made for pictures of another size",
    ),
    "a vector": (lambda: ROWS, "It wants rows of 784 numbers"),
    "its own error": (
        lambda: Of(lambda x: 1 / 0),
        r"ZeroDivisionError: division by zero \(in Of\.forward\(x\)\)\. If it takes anything but one",
    ),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_wrapper_that_is_written_opens_it(kind: str, tmp_path: Path) -> None:
    make, sentence = WRAPPED[kind]
    with pytest.raises(FactoryError, match=sentence) as caught:
        opened(lambda: (make(), PLAIN), tmp_path)
    assert "Traceback" in caught.value.details
    made: dict[str, Any] = {"torch": torch}
    exec(str(caught.value)[str(caught.value).index("class Wrapped") :], made)
    assert opened(lambda: (made["Wrapped"](make()), PLAIN), tmp_path).info.answer.reading.reads == "softmax"


@pytest.mark.parametrize("kind", TOLD)
def test_what_else_it_wants_is_said(kind: str, tmp_path: Path) -> None:
    make, sentence = TOLD[kind]
    with pytest.raises(FactoryError, match=sentence):
        opened(lambda: (make(), PLAIN), tmp_path)


def test_a_row_of_pixels_opens_with_the_size_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match="also start with --input-size 28x28") as caught:
        opened(lambda: (ROWS, PLAIN), tmp_path)
    made: dict[str, Any] = {"torch": torch}
    code = str(caught.value)[str(caught.value).index("class Wrapped") :]
    exec(code[: code.index("If they are")], made)
    model = opened(lambda: (made["Wrapped"](ROWS), PLAIN), tmp_path, input_size=(28, 28), resize="squash")
    assert model.info.preprocessing.channels == 1  # 784 numbers are one channel of 28 x 28


def test_a_flattened_picture_says_at_which_size_it_is_right(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match=re.escape("wants 784 numbers and was given 12,288, because")) as caught:
        opened(lambda: (FLAT, PLAIN), tmp_path)
    assert "Start with --input-size 28x28." in str(caught.value)
    assert opened(lambda: (FLAT, PLAIN), tmp_path, input_size=(28, 28)).info.preprocessing.channels == 1


def test_a_picture_by_keyword_alone_is_given_so(tmp_path: Path) -> None:
    class Keyword(Net):
        def forward(self, *, image: Tensor) -> Any:  # type: ignore[override]
            return super().forward(image)

    assert opened(lambda: (Keyword(), PLAIN), tmp_path).info.answer.reading.reads == "softmax"


def test_x_and_y_are_no_two_pictures(tmp_path: Path) -> None:
    """Mostly the second is the labels: nothing may be computed from a picture in their place."""

    class Loss(Net):
        def forward(self, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
            return super().forward(x) * y.mean()

    with pytest.raises(FactoryError, match="needs a value for 'y' beside its picture 'x'"):
        opened(lambda: (Loss(), PLAIN), tmp_path)
