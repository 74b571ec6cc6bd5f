"""The sweep's models: built at random weights, given the smallest input that they accept, compared with the oracle."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from bench.oracle import give_values, judge
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.modes import evaluate

MEMORY_LIMIT_GIB = 8
SIDES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 288, 320, 384, 448, 512)
SEED = 0
# At 32 pixels its attention has a single key, so that its queries have gradient 0, and what is compared is rounding.
BEGIN_AT = {"timm:pvt_v2_b0": 128}


class NotRun(Exception):
    """A model that is not compared; the text says why."""


def answer_of(spec: str, threads: int = 1) -> dict[str, Any]:
    """What comparing one model found, as JSON can hold it: a `Verdict`'s fields, or "not_run" with the reason."""
    torch.set_num_threads(threads)
    try:
        model = build(spec)
        inputs = smallest_input(model, BEGIN_AT.get(spec, 0))
        return {"spec": spec, "input": _said(inputs), **dataclasses.asdict(judge(model, inputs, SEED))}
    except NotRun as reason:
        return {"spec": spec, "not_run": str(reason)}
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return {"spec": spec, "not_run": f"it needs more than {MEMORY_LIMIT_GIB} GB"}
        raise


def build(spec: str) -> nn.Module:
    """The model of "torchvision:NAME" or "timm:NAME" at seeded random weights, none of them zero for a whole layer."""
    source, _, name = spec.partition(":")
    torch.manual_seed(SEED)
    if source == "timm":
        model = timm.create_model(name, pretrained=False)
    else:
        builder = torchvision.models.get_model_builder(name)
        backbone = {"weights_backbone": None} if ".segmentation." in builder.__module__ or _detects(builder) else {}
        model = builder(weights=None, **backbone)
        if _detects(builder):
            _detect_anything(model)
    give_values(model, SEED)
    evaluate(model)
    return model


def smallest_input(model: nn.Module, begin_at: int = 0) -> tuple[Any, ...]:
    """The positional arguments of the first side in `SIDES`, from a given one on, that the model accepts."""
    problem: Exception | None = None
    for side in (side for side in SIDES if side >= begin_at):
        picture = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(SEED))
        inputs = ([picture[0]],) if hasattr(model, "transform") else (picture,)
        try:
            with torch.no_grad():
                output = model(*nested.private(inputs, requires_grad=False))
        except (RuntimeError, AssertionError, ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            if "allocate memory" in str(error):
                raise
            problem = error
            continue
        if any(tensor.is_floating_point() and tensor.numel() for _, tensor in nested.tensors(output)):
            return inputs
    raise NotRun(f"it accepts no square picture of up to {SIDES[-1]} pixels ({problem})")


def limit_memory() -> None:
    """Let this process have no more than `MEMORY_LIMIT_GIB`, so that a model beyond it fails and not the machine."""
    with contextlib.suppress(ValueError, OSError):  # a system without this limit goes on without it
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_GIB << 30, resource.RLIM_INFINITY))


def _detects(builder: Any) -> bool:
    return ".detection." in builder.__module__


def _detect_anything(model: nn.Module) -> None:
    """Small pictures, and every box counts: with random weights no score would reach the usual threshold."""
    transform = model.transform
    if transform.fixed_size is None:
        transform.min_size, transform.max_size = (128,), 128
    for part in (model, getattr(model, "roi_heads", None)):
        for name in ("score_thresh", "score_thr"):
            if hasattr(part, name):
                setattr(part, name, 0.0)
    for part, name in ((model, "detections_per_img"), (getattr(model, "roi_heads", None), "detections_per_img")):
        if hasattr(part, name):
            setattr(part, name, 20)


def _said(inputs: tuple[Any, ...]) -> str:
    found = nested.first(inputs)
    picture: Tensor | None = None if found is None else found[1]
    return "" if picture is None else f"{picture.shape[-2]} × {picture.shape[-1]}"
