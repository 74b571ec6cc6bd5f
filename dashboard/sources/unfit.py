"""Why a model does not run on a picture, found by where its run ends, with what to do about it."""

from __future__ import annotations

import contextlib
import math
import traceback
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.dashboard.asking.texts import one_line, say
from hookscope.dashboard.sources.building import FactoryError
from hookscope.dashboard.sources.entrance import Entrance, name_of_picture, wrapped
from hookscope.hooks.passes.modes import unwrap

PARTS = 120  # characters of the names of a model's parts
CHANNELS = (3, 1, 4)  # that a picture of a size which is guessed may have
OF_SIZE = ("divisible", "multiple of", "must match", "size mismatch", "input size", "input height", "input image size")
OTHERWISE = (  # what an error says, what the model then wants, how a wrapper gives it
    (("uint8", "byte"), "pixels as bytes (so mean 0 and std 1)", "(picture * 255).byte()"),
    (("not enough values to unpack", "too many values to unpack"), "several things at once", "(picture, ...)"),
    (("indices", "keyerror", "string"), "a dictionary", '{"image": picture}'),
    (("has no attribute",), "something else than a tensor", "..."),
)


@dataclass(frozen=True)
class Ended:
    """The innermost layer in which a run ended; the model itself is "".

    Attributes:
        shape: of the first tensor that it was given; () for none.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]


def explained(error: Exception, module: nn.Module, entrance: Entrance, noise: Tensor) -> FactoryError:
    """What to say of a model that does not run on noise of a picture's shape.

    Arguments:
        error: what it raised. noise: float32 (1, channel, height, width).
    """
    inner = unwrap(module)
    if isinstance(error, NotImplementedError) and type(inner).forward is nn.Module.forward:
        parts = ", ".join(name for name, _ in inner.named_children())
        return FactoryError(
            f"{type(inner).__name__} has no forward method that could be run. Give its class one: def forward(self, "
            f"picture), which calls its parts{f' ({one_line(parts, PARTS)})' if parts else ''}."
        )
    ended = _where(module, inner, noise)
    argument = entrance.argument or name_of_picture(inner)
    shape = " x ".join(map(str, noise.shape))
    where = f"layer {ended.name!r}" if ended.name else f"{type(inner).__name__}.forward({argument})"
    said = f"{type(error).__name__}: {error}".lower()
    advice = _of_types(inner, said) or ("" if ended.name else _that_runs(inner, noise)) or _advice(said, ended, noise)
    return FactoryError(
        f"The model does not run on a picture of {shape} numbers: {say(error)} (in {where}). {advice}",
        "".join(traceback.format_exception(error)),
    )


def _where(module: nn.Module, inner: nn.Module, noise: Tensor) -> Ended:
    """Run it once more, to see which layers had begun and not ended."""
    running: list[Ended] = []
    names = {each: name for name, each in inner.named_modules()}

    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        running.append(Ended(names[module], module, tuple(tensors[0].shape) if tensors else ()))

    def end(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    with contextlib.ExitStack() as stack:
        for each in names:
            if not isinstance(each, torch.jit.ScriptModule):
                stack.callback(each.register_forward_pre_hook(begin, with_kwargs=True).remove)
                stack.callback(each.register_forward_hook(end).remove)
        with torch.no_grad(), contextlib.suppress(Exception):
            module(noise)
    return running[-1] if running else Ended("", inner, ())


def _of_types(inner: nn.Module, said: str) -> str:
    """Of a model whose layers compute in several types, which do not fit."""
    types: dict[str, str] = {}
    for name, each in inner.named_parameters():
        if each.is_floating_point():
            types.setdefault(str(each.dtype).removeprefix("torch."), name.rpartition(".")[0])
    if len(types) < 2 or not any(word in said for word in ("dtype", "scalar type", "data type")):
        return ""
    shown = ", ".join(f"{kind} in {layer or 'the model itself'}" for kind, layer in types.items())
    return f"Its layers compute in several types ({shown}). Bring them to one in the factory: model.float()."


class _Asked(dict[Any, Any]):
    """A dictionary that gives the same for every key, and remembers which were asked."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given, self.asked = given, list[str]()

    def __missing__(self, key: Any) -> Tensor:
        self.asked.append(str(key))
        return self.given


def _that_runs(inner: nn.Module, noise: Tensor) -> str:
    """A wrapper that was seen to run, of a model that wants a picture in another form; "" if none does."""
    for wants, made, call in (
        ("a dictionary", lambda each: each, "{}"),
        ("a list of dictionaries, one for each picture", lambda each: [each], "[{}]"),
    ):
        one = noise if call == "{}" else noise[0]
        asked = _Asked(one)
        if not _runs(inner, made(asked)) or not asked.asked:
            continue
        picture = "picture" if call == "{}" else "picture[0]"
        keys = dict.fromkeys(asked.asked)
        if _runs(inner, made(dict.fromkeys(keys, one))):
            first, *rest = keys
            entries = ", ".join([f'"{first}": {picture}', *(f'"{key}": ...' for key in rest)])
            return _want(wants, call.format(f"{{{entries}}}"))
    if _runs(inner, (noise.clamp(0, 1) * 255).byte()):
        return _want(*OTHERWISE[0][1:])
    return ""


def _runs(inner: nn.Module, given: Any) -> bool:
    with torch.no_grad(), contextlib.suppress(Exception):
        inner.forward(given)
        return True
    return False


def _want(wants: str, call: str) -> str:
    return f"It seems to want {wants}. Give it that in the factory:{wrapped(call)}"


def _advice(said: str, ended: Ended, noise: Tensor) -> str:
    """What is to be done, by where it ended."""
    layer, shape = ended.module, ended.shape
    if isinstance(layer, nn.Linear) and shape and shape[-1] != layer.in_features:
        return _of_numbers(layer.in_features, shape, noise)
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return "It looks words up by their numbers, so it is a model of text, and a picture cannot be given to it."
    if isinstance(layer, nn.Conv2d) and len(shape) == 4 and shape[1] != layer.in_channels:
        return (
            f"That layer wants {layer.in_channels} channels. Make them of a picture's {noise.shape[1]} in the "
            f"factory:{wrapped('...')}"
        )
    if "cuda" in said or "nvidia" in said:
        return "Its code asks for a GPU by itself. Have it use the device of what it is given: x.device."
    if any(word in said for word in OF_SIZE):
        return "If it is made for pictures of another size, start with --input-size HEIGHTxWIDTH."
    for words, wants, call in OTHERWISE:
        if any(word in said for word in words):
            return _want(wants, call)
    return f"If it takes anything but one batch of pictures, give it that in the factory:{wrapped('...')}"


def _of_numbers(wanted: int, shape: tuple[int, ...], noise: Tensor) -> str:
    """A linear layer has other weights than there are numbers."""
    height, width = noise.shape[2:]
    if len(shape) > 2 and shape[-1] == width:
        side = _side(wanted)
        size = f" If they are the pixels of a picture of {side}, also start with --input-size {side}." if side else ""
        return (
            f"It wants rows of {wanted:,} numbers, and a picture has channels, height and width. Make a row of it in "
            f"the factory:{wrapped('picture.flatten(1)')}\n{size.strip()}".rstrip()
        )
    side = _side(wanted) if math.prod(noise.shape[1:]) == shape[-1] else ""
    which = f"--input-size {side}" if side else "--input-size HEIGHTxWIDTH, of the size that it was trained with"
    return (
        f"That layer wants {wanted:,} numbers and was given {shape[-1]:,}, because pictures come to it in "
        f"{width} x {height} pixels. Start with {which}."
    )


def _side(count: int) -> str:
    """The size of a square picture with so many numbers, as "28x28"; "" if there is none."""
    for channels in CHANNELS:
        side = math.isqrt(count // channels)
        if side * side * channels == count:
            return f"{side}x{side}"
    return ""
