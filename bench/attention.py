"""Of which transformers of timm the attention is found, layer by layer, in one forward pass each at random weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import timm
import torch

from bench import conditions
from bench.options import Options, say
from bench.report import Table
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.attention import attention_maps
from hookscope.hooks.results.looks import AttentionMaps, LayerInfo

# What calls itself attention by its class, or is known to be one.
CALLED = re.compile(r"Attn|Attention|XCA|MHSA|GPSA|SHSA|SHMA|LambdaLayer")


@dataclass(frozen=True)
class Family:
    """A model of timm, and what has to be known about its attention; "" if nothing."""

    model: str
    remark: str = ""


POOLED = "keys are pooled, so queries and keys lie on two grids"
FAMILIES = (
    Family("vit_tiny_patch16_224"),
    Family("deit3_small_patch16_224"),
    Family("beit_base_patch16_224"),
    Family("eva02_tiny_patch14_224"),
    Family("cait_xxs24_224", "talking heads: the weights before they are mixed; the class attention has one query"),
    Family("volo_d1_224", "outlook attention: windows of 3 × 3 positions"),
    Family("xcit_nano_12_p16_224", "cross-covariance has no positions: only the class attention is shown"),
    Family("crossvit_tiny_240", "the class token of one branch looks at the other's patches"),
    Family("convit_tiny", "the gated positional layers mix two softmaxes and divide anew: no single one is applied"),
    Family("swin_tiny_patch4_window7_224", "windows"),
    Family("swinv2_tiny_window8_256", "windows"),
    Family("maxvit_nano_rw_256", "windows, every other time of positions that lie apart"),
    Family("davit_tiny", "windows; every other layer attends from channels to channels"),
    Family("nest_tiny", "blocks"),
    Family("coatnet_nano_rw_224"),
    Family("pvt_v2_b0", POOLED),
    Family("twins_svt_small", f"windows; in every other layer {POOLED}"),
    Family("mvitv2_tiny", POOLED),
    Family("nextvit_small", "keys are runs of positions, which have no grid; ConvAttention is a convolution"),
    Family("levit_128s"),
    Family("mobilevit_xxs", "every fourth position looks at those of its kind"),
    Family("mobilevitv2_050", "one context vector for all queries: there are no pairs to show"),
    Family("coat_tiny", "keys and values are multiplied first: there are no pairs to show"),
    Family("edgenext_xx_small", "cross-covariance"),
    Family("efficientformerv2_s0", "talking heads by 1 × 1 convolutions"),
    Family("efficientvit_m0", "several per layer, a group of channels after the other; the page shows the first"),
    Family("efficientvit_b0", "linear attention by ReLU: no softmax"),
    Family("shvit_s1"),
    Family("botnet26t_256"),
    Family("lambda_resnet26t", "the rows are 16 channels of the keys, not positions"),
)


def run(options: Options) -> Table:
    """Look; `options` change nothing, for a look is taken once."""
    rows = []
    for family in FAMILIES:
        say(f"attention: {family.model}")
        torch.manual_seed(0)
        model = timm.create_model(family.model).eval()
        picture = torch.randn(1, *model.pretrained_cfg["input_size"])
        layers = describe(model, picture)
        maps = attention_maps(model, picture, layers=layers)
        title = family.model + (f": {family.remark}" if family.remark else "")
        rows.append([title, *(_counted(part) for part in _parts(layers)), _seen(maps)])
    notes = [
        "Random weights, the model's own size of picture. Layers are counted by their classes; what is not found calls",
        "itself attention, ran, and has no softmax over keys that a product adds up.",
        conditions.sentence(["torch", "timm"]),
    ]
    columns = ["model", "found", "of channels, not shown", "not found", "on the picture"]
    return Table("attention", columns, rows, notes)


def _parts(layers: Iterable[LayerInfo]) -> tuple[list[str], list[str], list[str]]:
    """The classes of layers that have maps, of those that attend to channels, and of others called attention."""
    modules = [info for info in layers if not info.operation and info.calls]
    shown = [info for info in modules if any(call.heads for call in info.calls)]
    channels = [info for info in modules if any(call.channel_heads for call in info.calls)]
    named = [info for info in modules if CALLED.search(info.type) and info not in shown and info not in channels]
    found = [info.name for info in (*shown, *channels)]
    # neither a block around one that was found, nor a part of it
    others = [
        info
        for info in named
        if not any(_inside(name, info.name) or _inside(info.name, name) for name in found)
        and not any(_inside(other.name, info.name) for other in named)
    ]
    return [info.type for info in shown], [info.type for info in channels], [info.type for info in others]


def _inside(name: str, around: str) -> bool:
    return name.startswith(f"{around}.")


def _counted(types: list[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(types).items()) or "–"


def _seen(maps: list[AttentionMaps]) -> str:
    """How many maps lie on the picture, in windows, and where that is not known."""
    kinds = Counter("windows" if each.axes[0] == "window" else "yes" if each.grid else "not known" for each in maps)
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "–"
