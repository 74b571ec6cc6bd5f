"""What a person gives as the picture: a tensor as the model takes it, or a photograph with the way to prepare it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.dashboard.asking.texts import one_line, say
from hookscope.dashboard.notebook.greys import takes_grey
from hookscope.dashboard.notebook.walls import NotShown

if TYPE_CHECKING:
    from PIL import Image

Prepare = Callable[[Any], Any]
Values = Sequence[float] | float | None
Told = tuple[float, ...] | None
SHOWN = 60  # characters of a value


def read_values(mean: Values, std: Values) -> tuple[Told, Told]:
    """mean= and std= as plain numbers, (channel,) or one for all; None for both where they were not given.

    Raises:
        NotShown: they are none, or only one of them was given.
    """
    if (mean is None) != (std is None):
        raise NotShown("mean= and std= belong together, and one of them is missing: give both, or neither.")
    if mean is None or std is None:
        return None, None
    told = _numbers("mean", mean), _numbers("std", std)
    if max(told[0]) > 1:
        raise NotShown("mean= is above 1. Give it, and std=, of pixels of 0 to 1: divide both by 255.")
    if min(told[1]) <= 0:
        raise NotShown("std= has to be above 0: pixels are divided by it.")
    return told


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    try:
        given = torch.as_tensor(values).detach().cpu()
        found = [] if given.is_complex() else given.to(torch.float64).reshape(-1).tolist()
    except Exception:  # torch raises what it likes of what it cannot take
        found = []
    if not found or isinstance(values, bool) or not all(map(math.isfinite, found)):
        raise NotShown(f"{name}= is {one_line(repr(values), SHOWN)}. Give a finite number, or one for each channel.")
    return tuple(found)


def as_input(model: nn.Module, image: Any, prepare: Prepare | None, mean: Told, std: Told) -> tuple[Tensor, str]:
    """The model's argument, (image = 1, channel, height, width), on the model's device, and what to say of it.

    Arguments:
        image: a tensor, (channel, height, width) or with an image axis of length 1, as the model is given it; or a PIL
            image, an array of uint8 (height, width, 3 or 1) or (height, width), or a file's path.
        prepare: picture -> such a tensor.
        mean, std: of pixels of 0..1, per channel or one for all; how a picture is prepared without `prepare`, in the
            size that it has, and grey where the model takes one channel.

    Raises:
        NotShown: it is none of these; a sentence.
    """
    picture = image if isinstance(image, Tensor) else _opened(image)
    device, said = device_of(model), ""
    if device.type == "meta":
        raise NotShown("This model has no weights: it lies on the device meta. Load it before it is shown.")
    if prepare is not None:
        try:
            tensor = prepare(picture)
        except Exception as error:
            raise NotShown(f"prepare could not prepare the picture: {say(error)}.") from error
        if not isinstance(tensor, Tensor):
            raise NotShown(f"prepare gave a {type(tensor).__name__}, and a tensor is needed, as the model takes it.")
    elif isinstance(picture, Tensor):
        tensor = picture
    elif mean is None or std is None:
        raise NotShown(
            "A picture has to be prepared as the model was trained: give prepare=, a function that makes a tensor of "
            "it, or mean= and std=, of pixels of 0 to 1."
        )
    else:
        coloured = _eight_bits(picture)
        if takes_grey(model, coloured.height, coloured.width):
            coloured, said = coloured.convert("L"), "The model takes one channel: the picture was made grey."
        values = np.array(coloured).reshape(coloured.height, coloured.width, -1)
        pixels = torch.from_numpy(values).permute(2, 0, 1).float() / 255
        tensor = (pixels - _each("mean", mean, len(pixels))) / _each("std", std, len(pixels))
    if problem := _no_plain_numbers(tensor):
        raise NotShown(f"The picture is a tensor {problem}.")
    tensor = tensor[None] if tensor.ndim == 3 else tensor
    if tensor.ndim != 4 or not tensor.numel():
        raise NotShown(
            f"The picture is a tensor of {_sizes(tensor)}. Give one picture, (channel, height, width) or (1, channel, "
            "height, width)."
        )
    if len(tensor) != 1:
        raise NotShown(f"These are {len(tensor)} pictures, and one is shown at a time: give image[0] or another.")
    return tensor.detach().to(device), said


def _no_plain_numbers(tensor: Tensor) -> str:
    """What of a tensor has to be made plain numbers first, with how; "" for nothing."""
    if tensor.is_nested:
        return "of several sizes (nested): give one picture of it, image.unbind()[0]"
    if tensor.is_meta:
        return "without values: it lies on the device meta"
    if tensor.is_quantized:
        return "of quantised numbers: give image.dequantize()"
    return "" if tensor.layout == torch.strided else "that is sparse: give image.to_dense()"


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights lie; the CPU for a model without any."""
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def as_seen(tensor: Tensor, mean: Told, std: Told) -> tuple[np.ndarray, str]:
    """The model's argument as a picture, uint8 (height, width, 3), and a sentence about what was done for that.

    Arguments:
        tensor: (image = 1, channel, height, width). mean, std: by which it was normalised; None if that is not known.
    """
    values = tensor[0].detach().cpu().float()
    channels = len(values)
    if mean is not None and std is not None:
        hint = advice(tensor)
        values = values * _each("std", std, channels, hint) + _each("mean", mean, channels, hint)
    three = values[:3] if channels >= 3 else values[:1].expand(3, -1, -1)
    said = [] if channels in (1, 3) else [f"Channels 0 to 2 of {channels}." if channels > 3 else "Channel 0 of 2."]
    finite = three[three.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
    if low < -1e-4 or high > 1 + 1e-4:  # rounding leaves 0..1 by less
        three = (three - low) / ((high - low) or 1.0)
        said.append(f"Values from {low:.4g}, dark, to {high:.4g}, bright; mean= and std= show it as it was.")
    three = three.nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
    return (three.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(), " ".join(said)


def _each(name: str, values: tuple[float, ...], channels: int, hint: str = "") -> Tensor:
    """A number per channel, (channel, 1, 1), or one for all; `hint` follows what is said of others."""
    if channels == 1 and len(set(values)) == 1:  # as of a photograph that was made grey
        values = values[:1]
    if len(values) not in (1, channels):
        raise NotShown(f"{name}= has {len(values)} numbers, and the picture has {channels} channels.{hint}")
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)


def _opened(image: Any) -> Image.Image:
    """A photograph."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise NotShown(NO_PILLOW) from None
    if isinstance(image, str | Path):
        try:
            with Image.open(image) as file:
                file.load()
                return _eight_bits(ImageOps.exif_transpose(file))
        except NotShown:
            raise
        except FileNotFoundError:
            raise NotShown(f"There is no file {str(image)!r}.") from None
        except Exception as error:  # Pillow's readers raise what they like
            raise NotShown(f"The file {str(image)!r} cannot be read as a picture: {say(error)}.") from error
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, np.ndarray):
        raise NotShown(f"The picture is a {type(image).__name__}. Give a tensor, a PIL image or a file's path.")
    if image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))) and image.size:
        return Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2:] == (1,) else image))
    raise NotShown(
        f"The picture is an array of {image.dtype}, {' x '.join(map(str, image.shape))}. An array is a picture if it "
        f"is uint8, (height, width, 3) or (height, width). {AS_GIVEN}"
    )


def advice(tensor: Tensor, model: nn.Module | None = None) -> str:
    """What may be wrong with what a model could not be run on: a sentence after another one, or nothing."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.shape[-1] in (1, 3) and tensor.shape[1] not in (1, 3):
        return f" Its channels seem to be its last axis. {AS_GIVEN}"
    if not tensor.is_floating_point():
        return f" It is of {kind}. {AS_GIVEN}"
    weights = {each.dtype for each in model.parameters() if each.is_floating_point()} if model is not None else set()
    if len(weights) == 1 and tensor.dtype not in weights:
        own = str(*weights).removeprefix("torch.")
        return f" It is of {kind}, and the model's weights are of {own}: give image.to(torch.{own})."
    return ""


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture in red, green and blue of 8 bits.

    Raises:
        NotShown: it has more; Pillow would make white of every value above 255.
    """
    if picture.mode.startswith(("I", "F")):
        raise NotShown(
            f"The picture has more than 8 bits (Pillow's mode {picture.mode}). Give a tensor, prepared as the model "
            "was trained."
        )
    try:
        if picture.mode.endswith("a"):  # colours that were multiplied by their opacity
            picture = picture.convert(f"{picture.mode[:-1]}A")
        return picture.convert("RGB")
    except (ValueError, OSError) as error:  # of a mode that Pillow cannot convert, or a file that is cut short
        raise NotShown(
            f"Red, green and blue cannot be made of this picture (Pillow's mode {picture.mode}): {say(error)}. Give a "
            "tensor, prepared as the model was trained."
        ) from error


def _sizes(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


AS_GIVEN = (
    "A tensor is what the model is given, float (channel, height, width), prepared as it was trained: of an array of "
    "(height, width, channel), torch.from_numpy(array).permute(2, 0, 1) / 255, normalised."
)
NO_PILLOW = "Pictures are drawn by Pillow, which is not installed: pip install 'hookscope[notebook]'."
