"""From a picture to a model's input tensor, the way that model was trained.

The resizing and cropping is done by torchvision's and timm's own operations, so the tensor is exactly theirs; beside
it each step's geometry is followed, to know which part of the original the model saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from torchvision.transforms.transforms import CenterCrop, Resize

from hookscope.dashboard.asking.sides import AS_WANTED, LONGEST_SIDE, OWN_WAY, Preparation, read_pixels
from hookscope.dashboard.engine.base import Fit, Preprocessing
from hookscope.dashboard.inputs import colours, rows
from hookscope.dashboard.inputs.axes import decide
from hookscope.dashboard.inputs.fills import paint
from hookscope.dashboard.inputs.rows import Exact
from hookscope.dashboard.sources import steps as ways
from hookscope.dashboard.sources.steps import Step
from hookscope.hooks.errors import HooksError

MAXIMUM_RESIZED_PIXELS = 60_000_000
MAXIMUM_INPUT_PIXELS = 5_000_000  # of models that take pictures of any size
NOISE_PX = 320  # of the noise that a model which resizes by itself is recorded with
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FITS: Mapping[str, Fit] = {"squeezed": "squash", "padded": "pad", "cut": "crop"}


MOST_CHANNELS = 16
PictureT = TypeVar("PictureT", Image.Image, Tensor)
Rest = Callable[[Image.Image], tuple[np.ndarray, tuple[float, float, float, float]]]


class PreparationError(HooksError):
    """The picture cannot become this model's input."""


@dataclass(frozen=True)
class Prepared:
    """A model's input.

    Attributes:
        pixels: uint8 (height, width, 3), what the model sees, before it is normalised.
        crop: (left, top, right, bottom) of what is in it, in pixels of the original picture.
        mean, std: per channel that the model gets, of values 0..1. One channel is the first of the three.
        exact: float32 (channel, height, width) of 0..1 where `pixels` are rounded from it; else None.
    """

    pixels: np.ndarray
    crop: tuple[float, float, float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    exact: np.ndarray | None = None

    def seen_as(self, shown: str) -> np.ndarray:
        """`pixels` with other channels as red, green and blue; of what the model is given, so nothing else changes.

        Arguments:
            shown: as `inputs.colours` writes it.
        """
        if not shown or self.exact is None:
            return self.pixels
        return np.array(_shown(torch.from_numpy(self.exact), shown))

    @property
    def tensor(self) -> Tensor:
        """float32 (image = 1, channel, height, width), normalised: made anew, because it is four times as large."""
        if self.exact is None:
            shown = torch.from_numpy(self.pixels).permute(2, 0, 1)[: len(self.mean)]
            plain = F.convert_image_dtype(shown.contiguous(), torch.float)
        else:
            plain = torch.from_numpy(self.exact)
        return F.normalize(plain, mean=list(self.mean), std=list(self.std)).unsqueeze(0)


@dataclass(frozen=True)
class Preprocessor:
    """How one model wants its pictures.

    Attributes:
        steps: picture -> picture, in order; resizing and cropping. info: the same for people.
        rest: what another library does after them: float32 (channel, height, width) of 0..1, and what of the picture
            that is, (left, top, right, bottom); None for nothing.
        spread: whether the smallest value of a picture becomes 0, and the largest 1, before all of them.
        axes: of an array that may be read in two ways, as a person has chosen them.
        painted: what is painted on a picture before all of that, as `inputs.painting` has it.
        untold: as it was before the operator's flags changed it; None where they did not.
    """

    steps: tuple[Step, ...]
    info: Preprocessing
    rest: Rest | None = None
    spread: bool = False
    axes: str = OWN_WAY
    painted: str = OWN_WAY
    untold: Preprocessing | None = None

    def __call__(self, picture: Image.Image, exact: Exact | None = None) -> Prepared:
        """Prepare a picture.

        Arguments:
            picture: RGB. exact: what it only stands for, if it has more bits or channels.

        Raises:
            PreparationError: it is too elongated for this model, or has other channels than this model takes, or
                nothing says which of its axes these are.
        """
        if exact is not None and exact.either:
            exact = self._placed(exact)
        if self.painted != OWN_WAY:
            picture, exact = paint(picture, exact, self.painted)
        if self.info.frames:
            return self._clip(picture, exact)
        if exact is not None and exact.frames:
            exact = None  # the first frame is the picture
        if self.spread:
            exact = _spread(picture, exact)
        if self.rest is not None:
            return self._by(self.rest, picture if exact is None else self._of_8_bits(exact))
        if exact is None and self.info.channels in (1, 3):
            shown, crop = self._stepped(picture)
            return Prepared(np.array(shown), crop, self.info.mean, self.info.std)
        values = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255 if exact is None else _scaled(exact)
        stepped, crop = self._stepped(self._channelled(values))
        pixels = np.array(_shown(stepped))
        return Prepared(pixels, crop, self.info.mean, self.info.std, np.ascontiguousarray(stepped.numpy()))

    def _clip(self, picture: Image.Image, exact: Exact | None) -> Prepared:
        """Frames below each other: those of a clip, evenly spread, or of a picture the same one each time."""
        if self.rest is not None:
            raise PreparationError(
                "This model's own processor prepares pictures, and the model takes clips. Open it through a factory."
            )
        frames = _frames_of(picture, _spread(picture, exact) if self.spread else exact, self.info.channels)
        count = self.info.frames
        taken = [round(index * (len(frames) - 1) / max(count - 1, 1)) for index in range(count)]
        found = {index: self._stepped(self._channelled(frames[index])) for index in dict.fromkeys(taken)}
        strip = torch.cat([found[index][0] for index in taken], 1)
        values = np.ascontiguousarray(strip.numpy())
        return Prepared(np.array(_shown(strip)), found[0][1], self.info.mean, self.info.std, values)

    def _stepped(self, picture: PictureT) -> tuple[PictureT, tuple[float, float, float, float]]:
        """What the steps make of a picture, and what of it that is."""
        width, height = before = ways.size(picture)
        left = top = 0.0
        scale_x = scale_y = 1.0  # original pixels per pixel of `picture`
        for step in self.steps:
            self._check(step, before)
            picture = ways.applied(step, picture)
            after = ways.size(picture)
            if ways.crops(step):
                left += scale_x * ways.cut_before(before[0], after[0])
                top += scale_y * ways.cut_before(before[1], after[1])
            else:
                scale_x *= before[0] / after[0]
                scale_y *= before[1] / after[1]
            before = after
        if not any(self.info.crop) and before[0] * before[1] > MAXIMUM_INPUT_PIXELS:
            raise _elongated(width, height)
        return picture, (left, top, left + scale_x * before[0], top + scale_y * before[1])

    def _placed(self, exact: Exact) -> Exact:
        """An array that may be read in two ways, read."""
        shape = exact.values.shape
        axes = decide(shape, self.info.channels, self.axes)
        if axes is None:
            raise PreparationError(
                f"The channels of this array of {' x '.join(map(str, shape))} may be its first axis or its last, and "
                f"that this model takes {_counted(self.info.channels)} does not tell which. Choose what its axes are."
            )
        return exact.turned() if axes == "channels-first" else replace(exact, either=False)

    def _of_8_bits(self, exact: Exact) -> Image.Image:
        """The picture that another library's processor is given, which takes no others.

        Raises:
            PreparationError: it has channels or values that such a picture cannot have.
        """
        values = _scaled(exact)
        if values.shape[0] not in (1, 3):
            raise self._other_channels(values.shape[0])
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 1:
            raise PreparationError(
                f"This model's processor takes pictures of 8 bits, and this array's values go from {low:g} to "
                f"{high:g}, where 0 is black and 1 is white. Spread its used range, under levels, or save it as uint8."
            )
        return _shown(values)

    def _channelled(self, values: Tensor) -> Tensor:
        """A picture's channels, (channel, height, width), as many as the model takes.

        Raises:
            PreparationError: it has others.
        """
        has, wants = values.shape[0], self.info.channels
        if has == wants or (has == 3 and wants == 1):  # then the first of the steps makes it grey
            return values
        if has == 1 and wants == 3:
            return values.expand(3, -1, -1)
        raise self._other_channels(has)

    def _other_channels(self, has: int) -> PreparationError:
        wants = self.info.channels
        advice = (
            f"Give it an array of {wants} (.npy), or put what makes its channels of them in front of it, in a factory."
            if wants != 3
            else "Save the three that it is to see as one array (.npy)."
        )
        return PreparationError(f"This model wants {_counted(wants)}, and this picture has {has}. {advice}")

    def _by(self, rest: Rest, picture: Image.Image) -> Prepared:
        """What another library makes of a picture."""
        short = self.info.resize if isinstance(self.info.resize, int) else 0
        if short * short * max(picture.size) / min(picture.size) > MAXIMUM_RESIZED_PIXELS:
            raise _elongated(*picture.size)
        for step in self.steps:  # which change the channels alone
            picture = step(picture)
        values, crop = rest(picture)
        pixels = np.rint(values.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        return Prepared(np.ascontiguousarray(pixels), crop, self.info.mean, self.info.std, values)

    def otherwise(self, preparation: Preparation) -> Preprocessor:
        """This way but for what a preparation says.

        Raises:
            PreparationError: the model resizes pictures by itself, and another size or interpolation is asked for.
        """
        if preparation == AS_WANTED:
            return self
        info, steps, rest = self.info, self.steps, self.rest
        if {"size", "interpolation", "pixels"} & {*preparation.changed}:
            (info, steps), rest = self._resized(preparation), None
        if preparation.channels != OWN_WAY and info.channels not in (1, 3):
            raise PreparationError(
                f"This model takes {_counted(info.channels)}, which are no colours: there is no other order of them, "
                "and no grey. Choose other values or another size."
            )
        if preparation.channels == "grey":
            steps = (*steps, ways.grey if info.channels == 1 else ways.colourless)
        elif preparation.channels not in (OWN_WAY, info.order):
            steps = (*steps, ways.swapped)
        mean, std = _normalising(preparation.values, info)
        info = replace(info, mean=mean, std=std)
        return Preprocessor(steps, info, rest, preparation.levels == "spread", preparation.axes, preparation.painted)

    def for_channels(self, count: int) -> Preprocessor:
        """This way for a model that takes so many channels; 0 if that is not known.

        Raises:
            PreparationError: means were told for another number of channels, or it takes too many.
        """
        info = self.info
        told = [len(numbers) for name, numbers in (("mean", info.mean), ("std", info.std)) if name in info.given]
        count = count or next((each for each in told if each > 3), 3)
        if count > MOST_CHANNELS:
            raise PreparationError(
                f"This model wants {count} channels, and a picture has at most {MOST_CHANNELS}. Put what makes its "
                "channels of a picture in front of it, in a factory."
            )
        mean, std = self._for_each("mean", info.mean, count, 0.0), self._for_each("std", info.std, count, 1.0)
        steps = (ways.grey, *self.steps) if count == 1 and info.channels != 1 else self.steps
        return replace(self, steps=steps, info=replace(info, mean=mean, std=std, channels=count))

    def for_frames(self, count: int) -> Preprocessor:
        """This way for a model of clips of so many frames; 0 for one of pictures."""
        return replace(self, info=replace(self.info, frames=count)) if count else self

    def _for_each(self, name: str, told: tuple[float, ...], count: int, none: float) -> tuple[float, ...]:
        """A number per channel."""
        if len(told) == count:
            return told
        if len(set(told)) == 1:
            return (told[0],) * count
        if name in self.info.given:
            raise PreparationError(
                f"This model wants {_counted(count)}, and {len(told)} different numbers were given as {name}. Give "
                f"{'one' if count == 1 else f'{count}, or one for all'}."
            )
        return (sum(told) / len(told),) if count == 1 else (none,) * count

    def _resized(self, preparation: Preparation) -> tuple[Preprocessing, tuple[Step, ...]]:
        """Resizing and cropping in another way than the model's own."""
        info = self.info
        if not info.resize:
            raise PreparationError(
                "This model is given pictures in their own size, so there is no other size or interpolation. "
                "Choose other values or channels."
            )
        ratio = {"smaller": 0.5, "larger": 2.0}.get(preparation.size, 1.0)
        name = info.interpolation if preparation.interpolation == OWN_WAY else preparation.interpolation
        whole = info.crop if any(info.crop) else info.resize if isinstance(info.resize, tuple) else (info.resize,) * 2
        height, width = (max(round(each * ratio), 1) for each in whole)
        resize: int | tuple[int, int]
        if asked := read_pixels(preparation.pixels):
            ratio = max(asked) / max(whole)
            height, width = asked
        if max(height, width) > LONGEST_SIDE:
            raise PreparationError(
                f"A picture of {width} x {height} pixels is more than the {LONGEST_SIDE} at which the longer side ends "
                "here. Choose a smaller size."
            )
        fit = FITS.get(preparation.size, info.fit)
        if preparation.size == "cut" and not any(info.crop):
            resize = min(height, width)
        elif isinstance(info.resize, int):
            resize = max(round(info.resize * ratio), 1)
        else:
            resize = (height, width) if not any(info.crop) else tuple(max(round(s * ratio), 1) for s in info.resize)  # type: ignore[assignment]
        mode = InterpolationMode(name)
        if fit == "crop":
            own: list[Step] = [Resize(resize, mode, antialias=True)]
            if "fit" in info.assumed and preparation.size not in FITS and isinstance(resize, int):
                own = [ways.ShorterUnlessItFits(resize, mode, (height, width))]
            if any(info.crop) or preparation.size == "cut":
                own.append(CenterCrop((height, width)))
            steps: tuple[Step, ...] = tuple(own)
        else:
            steps, resize = ways.fitting(fit, (height, width), 0, mode), (height, width)
        if info.channels == 1:
            steps = (ways.grey, *steps)
        if info.order == "bgr":
            steps = (*steps, ways.swapped)
        crop = (height, width) if fit == "pad" or (fit == "crop" and any(info.crop)) else (0, 0)
        return replace(info, resize=resize, crop=crop, interpolation=name, fit=fit), steps

    def noise(self, seed: int) -> Tensor:
        """A seeded noise input of the size that this model mostly gets."""
        size = self.info.crop if any(self.info.crop) else self.info.resize or NOISE_PX
        height, width = (size, size) if isinstance(size, int) else size
        height *= max(self.info.frames, 1)
        return torch.randn(1, self.info.channels, height, width, generator=torch.Generator().manual_seed(seed))

    def _check(self, step: Step, size: tuple[int, int]) -> None:
        target = getattr(step, "size", 0)
        short = target if isinstance(target, int) else target[0] if len(target) == 1 else 0
        if isinstance(step, Resize) and short * short * max(size) / min(size) > MAXIMUM_RESIZED_PIXELS:
            raise _elongated(*size)


def _scaled(exact: Exact) -> Tensor:
    """float32 (channel, height, width), of which 0..1 is the range of the file's type."""
    values = torch.from_numpy(exact.values.astype(np.float32)).permute(2, 0, 1)
    return (values - exact.low) / (exact.high - exact.low)


def _spread(picture: Image.Image, exact: Exact | None) -> Exact:
    """The same with the smallest value as 0 and the largest as 1."""
    values = np.asarray(picture) if exact is None else exact.values
    low, high = float(values.min()), float(values.max())
    return Exact(values, low, high if high > low else low + 1.0, frames=0 if exact is None else exact.frames)


def _frames_of(picture: Image.Image, exact: Exact | None, channels: int) -> Tensor:
    """float32 (frame, channel, height, width) of 0..1; for a model of one channel each of several is a slice."""
    if exact is None:
        return (torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255)[None]
    values = _scaled(exact)
    if exact.frames:
        return values.unflatten(0, (exact.frames, 3))
    return values[:, None] if channels == 1 and len(values) > 3 else values[None]


def _shown(values: Tensor, shown: str = "") -> Image.Image:
    """Values (channel, height, width) as a picture: three of the channels, stretched where they leave 0..1."""
    three = values[list(colours.read(shown, values.shape[0]))]
    low, high = min(float(three.min()), 0.0), max(float(three.max()), 1.0)
    scaled = ((three - low) / (high - low) * 255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(scaled.permute(1, 2, 0).numpy()))


def _counted(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def open_exact(data: bytes) -> Exact | None:
    """What that picture only stands for; `open_pixels` has found it whole."""
    return rows.exact(data)


def open_pixels(data: bytes) -> Image.Image:
    """The picture that the server's input store sent; RGB.

    Raises:
        PreparationError: the bytes are not such a picture.
    """
    try:
        return rows.picture(data)
    except ValueError as error:
        raise PreparationError(f"The stored image cannot be read ({error}). Choose it again.") from error


def _normalising(values: str, info: Preprocessing) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) by which pixels of 0..1 become these values."""
    mean, std = info.mean, info.std
    if values == "twice":  # ((x - mean) / std - mean) / std
        again = [m + s * m for m, s in zip(mean, std, strict=True)]
        return tuple(again), tuple(s * s for s in std)
    named: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
        "symmetric": ((0.5,) * 3, (0.5,) * 3),
        "unit": ((0.0,) * 3, (1.0,) * 3),
        "bytes": ((0.0,) * 3, (1 / 255,) * 3),
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    }
    if values not in named:
        return mean, std
    low, spread = named[values]
    if info.channels in (1, 3):
        return low[: info.channels], spread[: info.channels]
    if values == "imagenet":
        raise PreparationError(
            f"This model takes {_counted(info.channels)}, and ImageNet's pictures have three: there is no mean of them "
            "for it. Choose other values."
        )
    return low[:1] * info.channels, spread[:1] * info.channels


def _elongated(width: int, height: int) -> PreparationError:
    return PreparationError(
        f"The image is {width} x {height} pixels, too elongated to be resized for this model. "
        "Cut it to the part you want to see."
    )
