"""The outputs of a model as they come out of a pass: which of them is the answer, and what its numbers are.

`results.outputs` has what a recorded run says of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.errors import TargetNotFound
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.endings import Ended, Endings, watching_endings
from hookscope.hooks.passes.looking import current
from hookscope.hooks.passes.mask_heads import watching_masks
from hookscope.hooks.results.outputs import PREFERRED, form_of

FUSED = nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder  # whose kernels depend on who watches


@dataclass(frozen=True)
class Answered:
    """What a model returned, and what is known of how it came about.

    Attributes:
        value: the model's output, as it is. endings: of the pass; None if nobody watched.
        mask_logits: float (box, class, row, column), of a detector of torchvision that gives masks, what its mask head
            said before the masks were laid over the picture, in the same graph.
        given: the model's arguments.
    """

    value: Any
    endings: Endings | None = None
    mask_logits: Tensor | None = None
    given: tuple[Any, ...] = ()

    def ended(self, tensor: Tensor) -> Ended | None:
        """What a tensor of the output came of, if it came of a softmax or sigmoid."""
        return None if self.endings is None else self.endings.of(tensor)


def answer(model: nn.Module, *inputs: Any, watched: bool = True) -> Answered:
    """Run the model, and remember what stood before a last softmax or sigmoid, and before its masks.

    Arguments:
        watched: False where it is known that there is none, of which `needs_watching` can tell.
    """
    if not watched:
        return Answered(model(*inputs), given=inputs)
    with watching_endings(model) as endings, watching_masks(model) as masks:
        value = model(*inputs)
    return Answered(value, endings, masks[-1] if masks else None, inputs)


def needs_watching(model: nn.Module, answered: Answered) -> bool:
    """Whether a further pass has to be watched as the one that gave this answer was, to be read as that one is.

    Nothing of most models' output comes of a softmax or sigmoid, and watching every function of each of hundreds of
    passes costs as much as a block of a ResNet. torch's own transformers leave their fused kernels where functions are
    watched, and would differ in the last bits.
    """
    return (
        answered.mask_logits is not None
        or any(answered.ended(tensor) for _, tensor in nested.tensors(answered.value))
        or any(isinstance(module, FUSED) for module in model.modules())
    )


@dataclass(frozen=True)
class Chosen:
    """The output that is read.

    Attributes:
        path: where it stood. numbers: float (image, class) or (image, class, height, width), the model's own.
        logits: of the same shape, what stood before a last softmax or sigmoid; else the same.
        reads: one of `methods.READINGS`.
    """

    path: str
    numbers: Tensor
    logits: Tensor
    reads: str

    def only(self, images: slice) -> Chosen:
        """The same of some of the images."""
        return Chosen(self.path, self.numbers[images], self.logits[images], self.reads)

    def again(self, other: Answered) -> Tensor:
        """The logits of the same output of another pass, of as many images as that one had."""
        tensor = next(each for path, each in nested.tensors(other.value) if path == self.path)
        ended = other.ended(tensor)
        found = tensor if ended is None else ended.before
        return found if self.numbers.ndim == 4 else found.reshape(-1, self.numbers.shape[1])


NO_CLASSES = (
    "The model's output is not one logit per class and image, so there is no class to explain. A class can be "
    "explained for classifiers, segmenters and detectors; for another model, give a callable that picks one "
    "number of the output."
)


def choose(answered: Answered, images: int = 1) -> Chosen:
    """The output that `looking`'s `reading` names, or else the one called "logits", or the only one.

    Arguments:
        images: how many the pass was of.

    Raises:
        TargetNotFound: there is none, several could be meant, or it is of another number of images.
    """
    reading = current().reading
    path, tensor = _find(answered.value, reading.output)
    if tensor.ndim >= 2 and tensor.shape[0] != images:
        raise TargetNotFound(
            f"A class is explained for one image at a time; this batch holds {tensor.shape[0]}. Give them one by "
            "one, or a callable that sums over them."
        )
    ended = answered.ended(tensor)
    numbers = _rows(tensor, images)
    logits = numbers if ended is None else _rows(ended.before, images)
    return Chosen(path, numbers, logits, reading.reads or _found(numbers, ended))


def _find(value: Any, wanted: str) -> tuple[str, Tensor]:
    found = [(path, tensor) for path, tensor in nested.tensors(value) if tensor.is_floating_point()]
    usable = [each for each in found if _usable(*each)]
    if wanted:
        named = [each for each in found if each[0] == wanted]
        if not named:
            raise TargetNotFound(
                f"The model's output has no part {wanted!r}, but {_names(found) or 'none at all'}. Choose one of these."
            )
        if not _usable(*named[0]):
            raise TargetNotFound(NO_CLASSES)
        return named[0]
    for name in PREFERRED:
        named = [each for each in usable if each[0].rpartition("/")[2] == name]
        if len(named) == 1:
            return named[0]
    if len(usable) > 1:
        raise TargetNotFound(
            f"The model's output has {len(usable)} parts that may be its answer: {_names(usable)}. Say which: "
            f'with looking(reading=Reading("{usable[-1][0]}")).'
        )
    if not usable:
        raise TargetNotFound(NO_CLASSES)
    return usable[0]


def _usable(path: str, tensor: Tensor) -> bool:
    return form_of(path, tuple(tensor.shape), tensor.shape[0] if tensor.ndim >= 2 else 1) in ("vector", "pixels")


def _names(found: list[tuple[str, Tensor]]) -> str:
    return ", ".join(f"{path!r} ({' x '.join(map(str, tensor.shape))})" for path, tensor in found)


def _rows(tensor: Tensor, images: int) -> Tensor:
    """Each image's numbers as (image, class) or (image, class, height, width)."""
    is_map = tensor.ndim == 4 and tensor.shape[2:] != (1, 1)
    return tensor if is_map else tensor.reshape(images, -1)


def _found(numbers: Tensor, ended: Ended | None) -> str:
    """What the numbers are taken for where nobody says it."""
    if ended is not None:
        return "softmax" if ended.kind == "log_softmax" else "probabilities"
    if numbers.shape[1] > 1:
        return "softmax"
    return "sigmoid" if numbers.ndim == 4 else "values"


def regions_of(chosen: Chosen) -> Tensor:
    """The pixels of each class, bool (class, height, width), of an answer with numbers per position.

    Where one class excludes the others, a pixel belongs to the class that is highest there; else to every class whose
    logit is above 0, or whose share is above one half where the model computes shares itself. Of numbers that are read
    as values, all.
    """
    logits = chosen.logits.detach()[0]
    if chosen.reads == "values":
        return torch.ones_like(logits, dtype=torch.bool)
    if chosen.reads == "softmax" or (chosen.reads == "probabilities" and len(logits) > 1 and _adds_up(chosen)):
        return logits.argmax(0) == torch.arange(len(logits), device=logits.device)[:, None, None]
    if chosen.reads == "probabilities":
        return chosen.numbers.detach()[0] > 0.5
    return logits > 0


def _adds_up(chosen: Chosen) -> bool:
    """Whether the shares at the positions add up to 1."""
    total = chosen.numbers.detach()[0].sum(0)
    return bool(((total - 1).abs() < 1e-3).all())
