"""Whether a model that goes on with a run is the one whose run it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.names import first_names
from hookscope.hooks.training.weights import OwnWeights, own_weights

NAMED = 3  # layers
OTHERS = (
    "Layers with weights are others than in the run that this goes on with, or in one of the two only ({names}): what "
    "stands there until now is not of the same weights."
)


def others_than_before(
    model: nn.Module, own: Iterable[OwnWeights], before: Mapping[str, int | None], folder: str
) -> tuple[str, ...]:
    """What there is to say where some layers are others than in the run: a head was replaced, a block added.

    It is another model where more than half of the run's layers with weights are not in it, or have another number of
    weights. Which layers are followed does not matter.

    Arguments:
        own: the weights of the layers that are followed. before: how many weights the run's layers had, by name; None
            where that is not known. folder: its name.

    Raises:
        HooksError: it is another model.
    """
    there = _counts(model)
    gone = [name for name, count in before.items() if not _may_be(count, there.get(name))]
    new = [each.layer for each in own if each.layer not in before]
    if len(gone) * 2 > len(before):
        raise HooksError(
            f"The folder {folder} holds the run of another model: of its {len(before):,} layers with weights "
            f"{len(gone):,} are not in this one, or have another number of weights ({_named(gone)}). Give each run a "
            "folder of its own."
        )
    if not before or not (gone or new):
        return ()
    return (OTHERS.format(names=_named(gone + new)),)


def _counts(model: nn.Module) -> dict[str, set[int]]:
    """How many weights each layer of a model may be said to have; nothing where a part of them lies elsewhere."""
    names = first_names(model)
    found: dict[str, set[int]] = {}
    for module, name in names.items():
        weights = [each for each in module._parameters.values() if each is not None]
        if weights:
            parts = any(hasattr(each, "to_local") or each.is_complex() for each in weights)
            found[name] = set() if parts else {sum(each.numel() for each in weights)}
    for each in own_weights((), True, names):  # what several layers share is the first one's
        if found[each.layer]:
            found[each.layer].add(sum(tensor.numel() for tensor in each.tensors.values()))
    return found


def _may_be(before: int | None, now: set[int] | None) -> bool:
    """Whether a layer may be the same one. None or one of 0 weights may lie elsewhere, as DeepSpeed has them."""
    return now is not None and (not before or not now or before in now or 0 in now)


def _named(layers: list[str]) -> str:
    return ", ".join(layers[:NAMED]) + (", ..." if len(layers) > NAMED else "")
