"""How a picture gets into a model: as which argument, beside what else, in which type, with how many channels.

Which argument it is stands in the signature; the rest is found by a run that ends at the first layer with weights that
the picture reaches. Where a model takes anything but one float32 picture as its first argument, a hook before the model
itself puts that together, so that everything which looks inside gives a picture, alone or several at once.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hookscope.dashboard.asking.texts import one_line, say
from hookscope.dashboard.sources.building import FactoryError
from hookscope.dashboard.sources.two_pictures import Pair
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.modes import unwrap

PICTURES = (
    *("pixel_values", "images", "image", "imgs", "img", "pictures", "picture", "pixels", "x", "samples"),
    *("input", "inputs", "left", "first", "before"),
)
PAIRS = (
    *(("left", "right"), ("first", "second"), ("before", "after"), ("pre", "post"), ("a", "b"), ("old", "new")),
    *(("template", "search"), ("anchor", "positive"), ("query", "support")),
    *(("fixed", "moving"), ("reference", "test"), ("q", "k")),
)
TRIPLET = {"anchor", "positive", "negative"}  # of which each is embedded in the same way
PICTURE = "picture"  # among a factory's inputs: a second picture, which is chosen on the page
USUAL_FRAMES = 16  # of a clip, where nobody says
SHOWN = 60  # characters of a value


@dataclass(frozen=True)
class Entrance:
    """How a picture gets into one model.

    Attributes:
        argument: the name of the parameter that gets it; "" for the first one.
        second: the name of the parameter that gets a second picture; "" if none does. told: whether the factory says
            which these are, and not their names. pair: what that picture is.
        frames: of the clips that it takes, which come to the hook below each other; 0 of a model of pictures.
            frames_first: whether they stand before the channels.
        others: what other parameters get, by name.
        dtype: of the picture. channels: that the first convolution wants; 0 if that is not known.
    """

    argument: str = ""
    second: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    channels: int = 0
    told: bool = False
    frames: int = 0
    frames_first: bool = False
    pair: Pair = field(default_factory=Pair, compare=False)

    @property
    def pictures(self) -> tuple[str, ...]:
        """The names of the parameters that get a picture, where these are two."""
        return (self.argument, self.second) if self.second else ()

    @property
    def is_plain(self) -> bool:
        """Whether the model takes a float32 picture as its first argument, and nothing else."""
        plain = not self.argument and not self.second and not self.others and not self.frames
        return plain and self.dtype == torch.float32

    @property
    def note(self) -> str:
        """What of it a person has to know, sentences; "" for nothing."""
        said = []
        if self.second:
            how = "The factory says that" if self.told else "By their names,"
            said.append(f"{how} {self.argument!r} and {self.second!r} are two pictures.")
        if self.others:
            given = ", ".join(f"{name} = {_shown(value)}" for name, value in self.others.items())
            said.append(f"Given beside the picture: {given}.")
        if self.dtype != torch.float32:
            said.append(f"Pictures are cast to {str(self.dtype).removeprefix('torch.')}, which the model computes in.")
        return " ".join(said)


def arguments_for(module: nn.Module, inputs: Mapping[str, Any]) -> Entrance:
    """Which parameter of a model's `forward` the picture is, by name and place; the others from a factory's `inputs`.

    Raises:
        FactoryError: there is no such parameter, or one has to be given a value; with a wrapper to write.
    """
    inner = unwrap(module)
    try:
        signature = inspect.signature(inner.forward)
    except (TypeError, ValueError):  # of a module made in C
        return Entrance(others=dict(inputs))
    kinds = inspect.Parameter
    parameters = [p for p in signature.parameters.values() if p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)]
    names = [p.name for p in parameters]
    anything = any(p.kind == kinds.VAR_KEYWORD for p in signature.parameters.values())
    for name in inputs:
        if name not in names and not anything:
            raise FactoryError(
                f"The factory gives {name!r} among its inputs, and {_called(inner, names)} has no such parameter. "
                f"Give those that it has."
            )
    told = [name for name, value in inputs.items() if isinstance(value, str) and value == PICTURE]
    if len(told) > 2:
        raise FactoryError(f"The factory gives {len(told)} parameters a {PICTURE!r}, and a side has two at most.")
    others = {name: value for name, value in inputs.items() if name not in told}
    free = [p.name for p in parameters if p.name not in inputs]
    required = [p.name for p in parameters if p.default is kinds.empty and p.name not in inputs]
    picture = told[0] if len(told) == 2 else _picture(required or free)
    left = [name for name in required if name != picture]
    alike = left if len(left) == 1 and _is_pair(picture, left[0]) else [""]
    second = told[-1] if told else alike[0]
    if missing := [name for name in left if name != second]:
        raise FactoryError(_wrapper(inner, names, picture, missing))
    is_first = not names or (picture == names[0] and parameters[0].kind != kinds.KEYWORD_ONLY)
    return Entrance("" if is_first and not second else picture, second, others, told=bool(told))


def found(module: nn.Module, entrance: Entrance, size: tuple[int, int], channels: int, frames: int = 0) -> Entrance:
    """The same with the type and the channels that the first layer wants which the picture reaches.

    Arguments:
        size: (height, width) of the picture to try. channels: of it. frames: of a clip, if that is told.

    Raises:
        FactoryError: that layer takes no pictures but a sequence.
    """
    inner = unwrap(module)
    floats = [each for each in (*inner.parameters(), *inner.buffers()) if each.is_floating_point()]
    usual = floats[0].dtype if floats else torch.float32
    device = floats[0].device if floats else torch.device("cpu")
    picture = torch.rand(1, channels, *size, device=device).to(usual)
    reached = None if frames else _first_layer(inner, entrance, picture)
    if reached is None or (isinstance(reached[0], nn.Conv3d) and len(reached[1]) == picture.ndim):
        clip = _of_clips(inner, entrance, picture, frames or USUAL_FRAMES)
        if clip is not None:
            return replace(clip, dtype=usual)
    if reached is None:
        return replace(entrance, dtype=usual)
    first, given = reached
    if isinstance(first, nn.Linear) and given == (1, channels * size[0] * size[1]) and channels > 1:
        grey = first.in_features == size[0] * size[1]  # as of handwritten digits, in a row
        return replace(entrance, dtype=_dtype(first, usual), channels=1 if grey else 0)
    if isinstance(first, nn.Conv1d) and len(given) == picture.ndim:
        raise FactoryError(
            "This model wants a sequence (image, channel, position) and no picture: its first layer is a Conv1d. Put "
            f"what makes one of a picture in front of it in the factory:{wrapped('picture.flatten(2)')}"
        )
    if isinstance(first, nn.Conv2d) and first.in_channels == channels != given[1] and _is_turned(given, picture):
        raise FactoryError(
            "This model wants pictures as (image, height, width, channel). Put what turns one in front of it in the "
            f"factory:{wrapped('picture.permute(0, 2, 3, 1)')}"
        )
    as_it_is = len(given) == 4 and given[1] == channels  # and not made of it, as a cosine transform's 64 channels
    wanted = first.in_channels if isinstance(first, nn.Conv2d) and as_it_is else 0
    return replace(entrance, dtype=_dtype(first, usual), channels=wanted)


def _dtype(layer: nn.Module, usual: torch.dtype) -> torch.dtype:
    """In which type a layer computes."""
    return next((each.dtype for each in layer.parameters(recurse=False) if each.is_floating_point()), usual)


def _of_clips(inner: nn.Module, entrance: Entrance, picture: Tensor, frames: int) -> Entrance | None:
    """How clips get into a model that takes no pictures: channels or frames first; None if neither reaches a layer."""
    for frames_first in (False, True):
        for channels in dict.fromkeys((picture.shape[1], 1)):
            tried = replace(entrance, frames=frames, frames_first=frames_first, channels=channels)
            strip = picture[:, :channels].repeat(1, 1, frames, 1)
            first, given = _first_layer(inner, tried, strip) or (None, ())
            if isinstance(first, nn.Conv2d | nn.Conv3d) and len(given) > 3 and given[1] == first.in_channels:
                return tried
    return None


def _is_turned(given: tuple[int, ...], picture: Tensor) -> bool:
    """Whether a picture was taken for (image, height, width, channel), and its last axis put first."""
    image, channel, height, width = picture.shape
    return given == (image, width, channel, height)


class _ReachedError(BaseException):
    """The run has come to the layer that was looked for; a model's own `except Exception` does not see it."""


def _first_layer(inner: nn.Module, entrance: Entrance, picture: Tensor) -> tuple[nn.Module, tuple[int, ...]] | None:
    """The first layer with weights that is given floating-point numbers, and their shape."""
    reached: list[tuple[nn.Module, tuple[int, ...]]] = []

    def look(module: nn.Module, args: Any, kwargs: Any) -> None:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1:
                reached.append((module, tuple(value.shape)))
                raise _ReachedError

    with contextlib.ExitStack() as stack:
        for module in inner.modules():
            if not isinstance(module, torch.jit.ScriptModule) and any(
                each.is_floating_point() for each in module.parameters(recurse=False)
            ):
                if any(module.children()):  # its own parameters are tokens and scales, mostly
                    continue
                stack.callback(module.register_forward_pre_hook(look, with_kwargs=True).remove)
        # whatever the model raises here it raises again when its layers are described, and is told then
        with torch.no_grad(), contextlib.suppress(_ReachedError, Exception), _quietly(inner):
            args, kwargs = put_together(inner, entrance, (picture,))
            inner(*args, **kwargs)
    return reached[0] if reached else None


@contextlib.contextmanager
def _quietly(module: nn.Module) -> Iterator[None]:
    """Without what a run in training mode would leave behind."""
    training = [each for each in module.modules() if each.training]
    for each in training:
        each.training = False
    try:
        yield
    finally:
        for each in training:
            each.training = True


class Entering:
    """Has a model take a float32 picture, or several, as its first argument, whatever it takes by itself: by a hook.

    It stays until `lend`: a model that others run as well has it only while it is `placed`, and in that thread.
    """

    def __init__(self, module: nn.Module, entrance: Entrance) -> None:
        self._inner, self._enter = unwrap(module), None if entrance.is_plain else _Enter(entrance)
        self._handle: RemovableHandle | None = None
        self._lent = False
        self._put()

    def remove(self) -> None:
        """Take the hook away."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.remove()

    def lend(self) -> None:
        """The model is somebody else's, who does not want the hook."""
        self.remove()
        self._lent = True

    @contextlib.contextmanager
    def placed(self) -> Iterator[None]:
        """Have the hook there in a `with` block."""
        if not self._lent or self._handle is not None:
            yield
            return
        self._put(threading.get_ident())
        try:
            yield
        finally:
            self.remove()

    def _put(self, thread: int = 0) -> None:
        if self._enter is not None:
            self._enter.thread = thread
            self._handle = self._inner.register_forward_pre_hook(self._enter, prepend=True, with_kwargs=True)


class _Enter:
    """The hook itself, which is copied and saved with its model."""

    def __init__(self, entrance: Entrance) -> None:
        self.entrance = entrance
        self.thread = 0  # in which alone it acts; 0 for all

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.thread and threading.get_ident() != self.thread:
            return None
        return put_together(module, self.entrance, args) if args and not kwargs else None


def fitted(inner: nn.Module, entrance: Entrance, picture: Tensor) -> Entrance:
    """The same with single numbers among the other arguments in the form in which the model runs with them.

    A timestep, or a class to condition on, is written as 10 or [10], and may be wanted as a number, as one for each
    picture, or as a row for each: tried in the order in which `_forms` has them. The first that gives numbers per
    picture or per position is taken, else the first with which the model runs, else what was given.

    Arguments:
        picture: float32 (1, channel, height, width), to try.
    """
    tries = max((len(_forms(value)) for value in entrance.others.values()), default=1)
    running = None
    for number in range(tries if tries > 1 else 0):
        others = {name: [*_forms(value), value][: number + 1][-1] for name, value in entrance.others.items()}
        tried = replace(entrance, others=others)
        with torch.no_grad(), contextlib.suppress(Exception), _quietly(inner):
            args, kwargs = put_together(inner, tried, (picture,))
            sizes = [each.ndim for _, each in nested.tensors(inner(*args, **kwargs)) if each.is_floating_point()]
            running = running or tried
            if {2, 4} & {*sizes}:
                return tried
    return running or entrance


def _forms(value: Any) -> list[Any]:
    """How a single number can be given; one way of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        return [value]
    if isinstance(value, Tensor):
        return [value, value[0]] if value.shape == (1, 1) else [value]
    return [value, torch.tensor([value]), torch.tensor([float(value)])]


def put_together(
    inner: nn.Module, entrance: Entrance, given: tuple[Any, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call: (positional, by name).

    Arguments:
        given: the picture (image, channel, height, width).
    """
    picture = given[0].to(entrance.dtype) if isinstance(given[0], Tensor) else given[0]
    if not (entrance.argument or entrance.second or entrance.others):
        return (_unstacked(picture, entrance), *given[1:]), {}
    many = picture.shape[0] if isinstance(picture, Tensor) else 1
    others = {name: _for_each(value, many, picture) for name, value in entrance.others.items()}
    if entrance.second:
        picture, second = entrance.pair.in_order(picture)
        others[entrance.second] = _unstacked(second, entrance)
    picture = _unstacked(picture, entrance)
    if not entrance.argument:
        return (picture,), others
    return (), {entrance.argument: picture, **others}


def _unstacked(strip: Tensor, entrance: Entrance) -> Tensor:
    """(image, channel, frame, height, width), or with the frames before the channels, of frames below each other."""
    if not entrance.frames:
        return strip
    clip = strip.unflatten(2, (entrance.frames, -1))
    return clip.transpose(1, 2) if entrance.frames_first else clip


def _for_each(value: Any, many: int, picture: Any) -> Any:
    """A constant on the picture's device, once for each of several pictures."""
    if not isinstance(value, Tensor):
        return value
    value = value.to(picture.device)
    if many > 1 and value.ndim and value.shape[0] == 1:
        return value.expand(many, *value.shape[1:])
    return value


def _picture(names: list[str]) -> str:
    """The one that is a picture by its name, else the first."""
    named = [name for wanted in PICTURES for name in names if name.lower() == wanted]
    return (named or names or [""])[0]


def _is_pair(one: str, other: str) -> bool:
    """Whether two parameters are called like two pictures of one kind: left and right, x1 and x2."""
    parts = [tuple(word for word in re.split(r"[_\d]+", name.lower()) if word) for name in (one, other)]
    if any(set(pair) == {one.lower(), other.lower()} for pair in PAIRS):
        return True
    if parts[0] == parts[1] and parts[0]:  # they differ in a number
        return True
    if len(parts[0]) != len(parts[1]) or not parts[0]:
        return False
    differing = [pair for pair in zip(*parts, strict=True) if pair[0] != pair[1]]
    return len(differing) == 1 and any(set(differing[0]) == set(pair) for pair in PAIRS)


def _wrapper(inner: nn.Module, names: list[str], picture: str, missing: list[str]) -> str:
    """What to do where parameters have to be given values that nobody has given."""
    several = "values for " if len(missing) > 1 else "a value for "
    if {name.lower() for name in (picture, *missing)} == TRIPLET:
        again = ", ".join(f"{name}=picture" for name in missing)
        return (
            f"{_called(inner, names)} takes three pictures, and a side has two at most. Have each embedded alone, by a "
            f"wrapper in the factory:{wrapped(f'picture, {again}')[:-1]})[0]"
        )
    inputs = ", ".join(f"{name!r}: ..." for name in missing)
    first = "picture" if picture in names[:1] else f"{picture}=picture"
    call = ", ".join([first, *(f"{name}=..." for name in missing)])
    return (
        f"{_called(inner, names)} needs {several}{_and(missing)} beside its picture {picture!r}. Say in "
        f"the factory: return model, {{'inputs': {{{inputs}}}}}, where {PICTURE!r} is a second picture. Or wrap the "
        f"model there:{wrapped(call)}"
    )


def name_of_picture(inner: nn.Module) -> str:
    """What the first parameter of a model's `forward` is called; "" if that is not known."""
    try:
        names = [*inspect.signature(inner.forward).parameters]
    except (TypeError, ValueError):
        names = []
    return names[0] if names else ""


def wrapped(call: str) -> str:
    """The lines of a wrapper around a model, which calls it so with a `picture`."""
    return (
        "\n"
        "class Wrapped(torch.nn.Module):\n"
        "    def __init__(self, model):\n"
        "        super().__init__()\n"
        "        self.model = model\n"
        "    def forward(self, picture):\n"
        f"        return self.model({call})"
    )


def _called(inner: nn.Module, names: list[str]) -> str:
    return f"{type(inner).__name__}.forward({', '.join(names)})"


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(map(repr, names[:-1])), repr(names[-1])]))


def _shown(value: Any) -> str:
    if isinstance(value, Tensor) and value.numel() > 6:
        return f"a tensor of {' x '.join(map(str, value.shape))}"
    return one_line(repr(value.tolist() if isinstance(value, Tensor) else value), SHOWN)


def doubt(error: Exception, entrance: Entrance) -> FactoryError:
    """What to say where a model that was given other things beside the picture does not run."""
    return FactoryError(
        f"The model does not run with what stands beside the picture ({', '.join(entrance.others)}): {say(error)}. "
        "Give the factory's inputs as tensors of the shape and type that the model wants."
    )
