"""Further kinds of models that people bring: opened as what they are, or told what is missing and how to give it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brought_models import PLAIN, Coder, Denoiser, Net, Triplet
from test_brought_inputs import SQUARE, factory, plainly
from torch import Tensor, nn
from torch.nn import functional

from hookscope.dashboard.settings.values import BadValue, model_spec
from hookscope.dashboard.sources.building import FactoryError
from hookscope.dashboard.sources.checkpoints import WeightsError
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.passes.looking import looking

__all__ = ["factory"]


class Conditioned(Net):
    """A critic of a picture and its class."""

    def __init__(self) -> None:
        super().__init__(1)
        self.table = nn.Embedding(5, 6)

    def forward(self, img: Tensor, labels: Tensor) -> Any:
        return self.fc(self.vector(img) + self.table(labels))


@pytest.mark.parametrize("written", [10, [10], torch.tensor([10])])
@pytest.mark.parametrize("net", [Denoiser(), Conditioned()])
def test_one_number_for_each_picture_is_given_as_the_model_takes_it(net: Net, written: Any, factory: Any) -> None:
    name, number = ("timestep", 10) if isinstance(net, Denoiser) else ("labels", 3)
    given = written * 0 + number if isinstance(written, Tensor) else [number] if isinstance(written, list) else number
    model = factory(lambda: (net, {**PLAIN, "inputs": {name: given}}))
    with torch.no_grad():
        right = type(net).forward(net, plainly(SQUARE), torch.tensor([number]))
        torch.testing.assert_close(model.module(model.prepare(SQUARE).tensor), right)
    assert model.info.outputs[0].shape == tuple(right.shape) and f"{name} = [{number}]" in model.info.notes[0]


def test_a_row_of_numbers_and_a_plain_number_stay_what_they_are(factory: Any) -> None:
    class Row(Net):
        def __init__(self) -> None:
            super().__init__()
            self.beside = nn.Linear(1, 6)

        def forward(self, picture: Tensor, age: Tensor, scale: float) -> Any:
            assert isinstance(scale, float)
            return self.fc(self.vector(picture) + self.beside(age)) * scale

    net = Row()
    model = factory(lambda: (net, {**PLAIN, "inputs": {"age": [0.6], "scale": 2.0}}))
    with torch.no_grad():
        right = Row.forward(net, plainly(SQUARE), torch.tensor([[0.6]]), 2.0)
        torch.testing.assert_close(model.module(model.prepare(SQUARE).tensor), right)


def test_the_code_of_an_autoencoder_is_no_list_of_classes(factory: Any) -> None:
    model = factory(lambda: (Coder(), PLAIN))
    found = model.info.answer
    assert (found.reading.output, found.reading.reads, found.assumed) == ("1", "values", True)
    assert "taken for the mean and the spread of a code" in found.why
    assert "draws random numbers" in model.info.notes[0]
    with looking(reading=found.reading), torch.no_grad():
        one, other = (predict(model.module, model.prepare(SQUARE).tensor).logits for _ in range(2))
        np.testing.assert_allclose(one, model.module(plainly(SQUARE))[1][0], atol=1e-6)
    np.testing.assert_array_equal(one, other)


class Drops(Net):
    def forward(self, picture: Tensor) -> Any:
        return self.fc(functional.dropout(self.vector(picture), 0.5, training=True))


@pytest.mark.parametrize(("net", "draws"), [(Drops(), True), (Net(), False)])
def test_a_model_that_draws_random_numbers_says_so_and_keeps_to_one_draw(net: Net, draws: bool, factory: Any) -> None:
    model = factory(lambda: (net, PLAIN))
    assert any("draws random numbers" in note for note in model.info.notes) == draws
    tensor = model.prepare(SQUARE).tensor
    np.testing.assert_array_equal(predict(model.module, tensor).logits, predict(model.module, tensor).logits)


def returning(function: Callable[[Tensor], Any]) -> nn.Module:
    class Returning(Net):
        def forward(self, picture: Tensor) -> Any:
            return function(self.fc(self.vector(picture)))

    return Returning()


RETURNED = {
    "whole numbers": (lambda logits: logits.argmax(1), "whole numbers, such as the index of the highest class"),
    "bool": (lambda logits: logits > 0, "yes or no (bool), which has no gradient"),
    "complex": (torch.fft.fft, "complex numbers, which are no one number each"),
    "an array": (lambda logits: logits.detach().numpy(), "numpy.ndarray, which came from a tensor"),
    "nothing": (lambda logits: None, "nothing, so its forward has no return"),
    "text": (lambda logits: "cat", "builtins.str, in which no tensor is found"),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_what_is_returned_and_cannot_be_read_is_called_by_its_name(kind: str, factory: Any) -> None:
    function, said = RETURNED[kind]
    model = factory(lambda: (returning(function), PLAIN))
    assert not model.info.outputs and f"It returns {said}" in model.info.notes[0]


def wrapper_of(text: str, net: nn.Module) -> nn.Module:
    """The wrapper that a sentence has, around a model."""
    names: dict[str, Any] = {"torch": torch}
    exec(text[text.index("class Wrapped") :], names)
    found: nn.Module = names["Wrapped"](net)
    return found


class OfDictionaries(Net):
    def forward(self, batched_inputs: list[dict[str, Tensor]]) -> Any:
        return self.fc(torch.cat([self.vector(each["image"][None]) for each in batched_inputs]))


class OfDictionary(Net):
    def forward(self, batch: dict[str, Tensor]) -> Any:
        return self.fc(self.vector(batch["img"]))


class OfBytes(Net):
    def forward(self, picture: Tensor) -> Any:
        assert picture.dtype == torch.uint8
        return self.fc(self.vector(picture.float() / 255))


WRAPPED = [
    (Triplet(8), "takes three pictures, and a side has two at most", lambda net, x: net.embed(x)),
    (OfDictionaries(), "a list of dictionaries, one for each picture", lambda net, x: net.fc(net.vector(x))),
    (OfDictionary(), "It seems to want a dictionary", lambda net, x: net.fc(net.vector(x))),
    (OfBytes(), "pixels as bytes (so mean 0 and std 1)", lambda net, x: net.fc(net.vector(x))),
]


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize(("net", "said", "right"), WRAPPED, ids=lambda each: type(each).__name__)
def test_the_wrapper_in_a_sentence_runs_and_is_right(net: Net, said: str, right: Any, factory: Any) -> None:
    with pytest.raises(FactoryError) as caught:
        factory(lambda: (net, PLAIN))
    assert said in str(caught.value)
    model = factory(lambda: (wrapper_of(str(caught.value), net), PLAIN))
    given = plainly(SQUARE)
    with torch.no_grad():
        torch.testing.assert_close(model.module(model.prepare(SQUARE).tensor), right(net, given), atol=1e-5, rtol=1e-4)
    if isinstance(net, Triplet):
        assert model.info.answer.reading.reads == "embedding"


def test_layers_of_several_types_are_named(factory: Any) -> None:
    net = Net()
    net.fc.bfloat16()
    with pytest.raises(FactoryError, match=r"\(float32 in conv, bfloat16 in fc\). Bring them to one in the factory"):
        factory(lambda: (net, PLAIN))


def test_a_model_without_forward_is_told_what_to_write(factory: Any) -> None:
    class Trained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    with pytest.raises(FactoryError, match=r"Trained has no forward method .* its parts \(backbone, head\)"):
        factory(lambda: (Trained(), PLAIN))


def exported() -> Any:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return torch.export.export(net.eval(), (torch.zeros(1, 3, 64, 64),))


MADE: dict[str, tuple[Callable[[], Any], str]] = {
    "a class": (lambda: Net, r"returned the class Net\. .* Make one of it: return Net\(\.\.\.\)\."),
    "weights": (lambda: Net().state_dict(), r"returned OrderedDict\. .* These are weights: .*--weights"),
    "a program": (lambda: (exported(), PLAIN), r"returned \(ExportedProgram, dict\)\. .* return program\.module\(\)\."),
    "nothing": (lambda: None, r"returned nothing\. .* Does it end in: return model\?"),
    "two models": (lambda: (Net(), Net()), r"returned \(Net, Net\)\. .* Settings are a dictionary"),
    "a number": (lambda: 3, r"returned int\. It has to return a torch\.nn\.Module, or \(module, settings\)\.$"),
}


@pytest.mark.parametrize("kind", MADE)
def test_what_a_factory_returned_in_place_of_a_model_is_named(kind: str, factory: Any) -> None:
    make, said = MADE[kind]
    with pytest.raises(FactoryError, match=said):
        factory(make)


def test_pictures_called_q_and_k_are_two(factory: Any) -> None:
    class Contrast(Net):
        def forward(self, im_q: Tensor, im_k: Tensor) -> Any:
            return self.vector(im_q) @ self.vector(im_k).T / math.sqrt(6)

    assert factory(lambda: (Contrast(), PLAIN)).info.pictures == ("im_q", "im_k")


@pytest.mark.parametrize("name", ["net.onnx", "last.pt", "a/b/model.safetensors", "net.pt2"])
def test_a_file_in_the_place_of_a_models_name_is_called_one(name: str) -> None:
    with pytest.raises(BadValue, match=r"is a file, as it seems.*--weights FILE"):
        model_spec(name)


@pytest.mark.parametrize(
    ("text", "meant"), [("facebook/dino-x", "hf:facebook/dino-x"), ("timm/resnet18", "timm:resnet18")]
)
def test_a_name_of_the_hub_is_offered_with_its_source(text: str, meant: str) -> None:
    with pytest.raises(BadValue, match=f"is named like {meant}"):
        model_spec(text)


def test_files_without_weights_say_what_they_hold(tmp_path: Path, factory: Any) -> None:
    torch.save(list(Net().state_dict().values()), tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("epochs: 3\nlr: 0.1\n")
    for name, said in (("list.pt", "a list of tensors without names"), ("text.pt", "text.pt is a text and holds no")):
        with pytest.raises(WeightsError, match=said):
            factory(lambda: (Net(), PLAIN), weights=str(tmp_path / name))
