"""The pixels that a unit can depend on, against changing each pixel, published arithmetic, and gradients."""

from __future__ import annotations

import copy
import doctest

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers import Count, assert_untouched, fixed
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.errors import (
    Cancelled,
    HooksError,
    LayerNotExecuted,
    LayerNotFound,
    ModelNotSupported,
    NoGradient,
    NoSpatialAxes,
)
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks import receptive as looks
from hookscope.hooks.looks.receptive import effective_field, receptive_fields
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results import receptive as results
from hookscope.hooks.results.receptive import ReceptiveField, smallest_square


class Does(nn.Module):
    """A module that is one function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, maps: Tensor) -> Tensor:
        return self.function(maps)


class Together(nn.Module):
    """Branches over the same maps, put side by side or added."""

    def __init__(self, *branches: nn.Module, add: bool = False) -> None:
        super().__init__()
        self.branches, self.add = nn.ModuleList(branches), add

    def forward(self, maps: Tensor) -> Tensor:
        found = [branch(maps) for branch in self.branches]
        return sum(found) if self.add else torch.cat(found, 1)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.less, self.more = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * torch.sigmoid(self.more(functional.leaky_relu(self.less(maps.mean((2, 3), keepdim=True)))))


class Attends(nn.Module):
    """Attention along the rows of maps, in one of the ways in which models write it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, maps: Tensor) -> Tensor:
        count, channels, height, width = maps.shape
        tokens = maps.permute(0, 2, 3, 1).reshape(count * height, 1, width, channels)
        places = torch.arange(width)
        far = (places[:, None] - places).abs() > 1
        mask = torch.zeros(width, width, dtype=maps.dtype)
        if self.way == "fused":
            seen = functional.scaled_dot_product_attention(tokens, tokens, tokens)
        elif self.way == "fused, told where it may look":
            seen = functional.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=~far)
        elif self.way == "fused, with a mask of -100":
            mask = mask.masked_fill(far, -1000.0 if maps.dtype == torch.float64 else -100.0)
            seen = functional.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=mask)
        elif self.way == "fused, causal":
            seen = functional.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)
        else:
            scores = tokens @ tokens.transpose(-2, -1)
            if self.way == "by hand, with a mask added in place":
                scores += mask.masked_fill(far, -1000.0)
            elif self.way == "by hand, filled":
                scores = scores.masked_fill(far, -torch.inf)
            seen = functional.dropout(scores.softmax(-1), 0.1, training=False) @ tokens
        return seen.reshape(count, height, width, channels).permute(0, 3, 1, 2)


def windows(maps: Tensor) -> Tensor:
    """Attention within windows of 4 x 4, moved by 2 and back."""
    count, channels, height, width = maps.shape
    moved = maps.roll((-2, -2), (2, 3)).reshape(count, channels, height // 4, 4, width // 4, 4)
    tokens = moved.permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, channels)
    seen = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
    back = seen.reshape(count, height // 4, width // 4, 4, 4, channels).permute(0, 5, 1, 3, 2, 4)
    return back.reshape(maps.shape).roll((2, 2), (2, 3))


def write_into_views(maps: Tensor) -> Tensor:
    moved = maps * 1
    moved[:, :, 2:].add_(moved[:, :, :-2].clone())
    moved[:, :, :, 3:6] = moved[:, :, :, 0:3].clone()
    moved.view(1, 4, -1)[:, :, :16].mul_(moved.flatten(2)[:, :, 16:32].clone())
    made = torch.zeros_like(moved)
    made[:, :, :, :-1] = moved[:, :, :, 1:]
    return made


def shuffle(maps: Tensor) -> Tensor:
    count, channels, height, width = maps.shape
    return maps.view(count, 2, channels // 2, height, width).transpose(1, 2).reshape(maps.shape)


SIZE = 12, 16


def bent() -> nn.Module:
    return nn.LeakyReLU(0.2)


def after(*layers: nn.Module) -> nn.Sequential:
    """A convolution, and what is tested on its maps (1, 4, 12, 16)."""
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *layers)


NETWORKS = {
    "a convolution": lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
    "steps larger than kernels": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 2, 3, 1), bent(), nn.Conv2d(3, 2, 2, stride=2, padding=1)
    ),
    "places that see padding alone": lambda: nn.Conv2d(2, 3, 1, padding=1),
    "a chain": lambda: after(bent(), nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(4, 2, 3, padding=1, dilation=2)),
    "groups": lambda: after(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), nn.Conv2d(8, 4, (1, 3), groups=2)),
    "even kernels, padded on one side": lambda: after(nn.ZeroPad2d((1, 2, 0, 2)), nn.Conv2d(4, 3, 4)),
    "mirrored and repeated edges": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), nn.Conv2d(3, 2, 3, padding=1, padding_mode="replicate")
    ),
    "a picture that goes round": lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
    "cut and padded unevenly": lambda: after(nn.ZeroPad2d((-2, 1, 3, -3)), nn.Conv2d(4, 2, 3)),
    "transposed": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1), bent(), nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, groups=2)
    ),
    "transposed, with gaps": lambda: nn.ConvTranspose2d(2, 4, (2, 4), stride=(3, 2), padding=(0, 1), dilation=(2, 1)),
    "resized to the nearest": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.Upsample(scale_factor=2)),
    "resized linearly": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 2, 3)
    ),
    "resized by cubes": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.Upsample(size=(9, 17), mode="bicubic")),
    "resized smoothly": lambda: after(
        Does(lambda maps: functional.interpolate(maps, size=(5, 6), mode="bilinear", antialias=True))
    ),
    "pooled to a size": lambda: after(nn.AdaptiveAvgPool2d((5, 7))),
    "pooled to a larger size": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, 3), nn.AdaptiveAvgPool2d((5, 7))),
    "pooled to one place": lambda: after(nn.AdaptiveAvgPool2d(1)),
    "normalised over places": lambda: after(nn.InstanceNorm2d(4)),
    "normalised in groups": lambda: after(nn.GroupNorm(2, 4)),
    "normalised at each place": lambda: after(Does(lambda maps: functional.normalize(maps, dim=1))),
    "a residual": lambda: Together(
        nn.Identity(),
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), bent(), nn.Conv2d(3, 2, 3, padding=1)),
        add=True,
    ),
    "branches": lambda: nn.Sequential(
        Together(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, (1, 5), padding=(0, 2)), nn.Conv2d(2, 2, (3, 1), padding=(1, 0))),
        nn.Conv2d(6, 6, 3, groups=3),
    ),
    "squeeze and excitation": lambda: after(SqueezeExcite(4)),
    "a gate of each row": lambda: after(Does(lambda maps: maps * maps.mean(3, keepdim=True).sigmoid())),
    "softmax along columns": lambda: after(Does(lambda maps: maps.softmax(2))),
    "moved windows that attend": lambda: after(Does(windows)),
    "attention": lambda: after(Attends("by hand")),
    "attention, with a mask added in place": lambda: after(Attends("by hand, with a mask added in place")),
    "attention, filled": lambda: after(Attends("by hand, filled")),
    "fused attention": lambda: after(Attends("fused")),
    "fused attention, told where it may look": lambda: after(Attends("fused, told where it may look")),
    "fused attention, with a mask of -100": lambda: after(Attends("fused, with a mask of -100")),
    "fused attention, causal": lambda: after(Attends("fused, causal")),
    "channels shuffled": lambda: after(Does(shuffle), nn.Conv2d(4, 4, 3, groups=2)),
    "shuffled to pixels": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, 2), nn.PixelShuffle(2)),
    "values written into views": lambda: after(Does(write_into_views)),
    "a clip of frames": lambda: after(
        Does(lambda maps: maps.unsqueeze(1)), nn.Conv3d(1, 2, 3, padding=(0, 1, 0)), nn.Flatten(1, 2)
    ),
    "weights that depend on the picture": lambda: Does(
        lambda maps: functional.conv2d(maps, torch.ones(3, 2, 3, 3, dtype=maps.dtype) * maps.mean())
    ),
    "places picked": lambda: after(Does(lambda maps: maps[:, :, ::3][..., [1, 4, 5]].flip(2) + 1)),
    "neighbours compared": lambda: after(Does(lambda maps: torch.maximum(maps[..., 1:], maps[..., :-1]))),
}


def boxes_by_changing_pixels(model: nn.Module, picture: Tensor) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """The box of each place of the output, from changing one pixel after the other."""

    def run(changed: Tensor) -> Tensor:
        with torch.no_grad():
            return model(changed).flatten(1, -3)[0]

    base = run(picture)
    moved = np.zeros((*base.shape[-2:], *picture.shape[2:]), bool)
    for row, column in np.ndindex(*picture.shape[2:]):
        for by in (50.0, -50.0):
            changed = picture.clone()
            changed[0, :, row, column] += by * torch.rand(picture.shape[1], dtype=picture.dtype)
            moved[:, :, row, column] |= (run(changed) != base).any(0).numpy()
    return {place: around(moved[place]) for place in np.ndindex(*moved.shape[:2])}


def around(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """The least box around pixels, bool (height, width)."""
    if not pixels.any():
        return 0, 0, 0, 0
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def found_boxes(field: ReceptiveField) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    return {place: field.box(*place) for place in np.ndindex(len(field.rows), len(field.columns))}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_unit_changes_with_a_pixel_of_its_box_and_with_no_other(name):
    torch.manual_seed(3)
    model = NETWORKS[name]().double().eval()
    picture = torch.rand(1, 2, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        channels = model(picture).shape[1]
    # the last layer is one whose axes a description knows, whatever came before
    model = nn.Sequential(model, nn.Conv2d(channels, 2, 1).double()).eval()
    with assert_untouched(model):
        field = receptive_fields(model, picture, "1")
    assert field.exact and not field.note
    assert found_boxes(field) == boxes_by_changing_pixels(model, picture)


def test_it_is_the_union_of_the_supports_of_gradients_over_pictures_and_weights():
    nets = [
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 3, 3)),
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), Together(nn.MaxPool2d(2), nn.Conv2d(3, 3, 3, 2)), nn.ReLU()
        ),
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU6(), SqueezeExcite(4), nn.MaxPool2d(2)),
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.Hardswish(), Attends("by hand"), nn.Conv2d(4, 2, 1)),
    ]
    for number, make in enumerate(nets):
        torch.manual_seed(1)
        model = make()
        field = receptive_fields(model, torch.zeros(1, 1, 11, 13), str(len(model) - 1))
        union = np.zeros((len(field.rows), len(field.columns), 11, 13), bool)
        first = {}
        for _ in range(40):
            model, picture = make(), torch.randn(1, 1, 11, 13, requires_grad=True)
            output = model(picture).abs().sum(1)[0]
            for place in np.ndindex(*output.shape):
                (gradient,) = torch.autograd.grad(output[place], picture, retain_graph=True)
                union[place] |= gradient[0, 0].numpy() != 0
                first.setdefault(place, around(gradient[0, 0].numpy() != 0))
        boxes = {place: around(union[place]) for place in first}
        assert found_boxes(field) == boxes
        if number < 2:  # the control: one gradient misses pixels
            assert boxes != first


# what is known of networks


def follow(layers: list[tuple[int, int, int]], places: int, length: int) -> tuple[int, int, list[list[int]]]:
    """Of a chain of (kernel, stride, padding) the field's size, its stride, and where it begins and ends at each place.

    Source: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.
    """
    size, stride, start = 1, 1, 0
    for kernel, step, padding in layers:
        size += (kernel - 1) * stride
        start -= padding * stride
        stride *= step
    starts = [start + stride * place for place in range(places)]
    return size, stride, [[max(start, 0), min(start + size, length)] for start in starts]


def assert_follows(field: ReceptiveField, layers: list[tuple[int, int, int]]) -> None:
    size, stride, rows = follow(layers, len(field.rows), field.picture[0])
    assert field.size == (size, size) and field.stride == (stride, stride)
    assert field.rows.tolist() == field.columns.tolist() == rows
    assert field.exact and not field.note


def test_vgg16_has_the_published_fields():
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    picture = torch.zeros(1, 3, 224, 224)
    layers = describe(features, picture)
    chain = [(3, 1, 1) if isinstance(each, nn.Conv2d) else (2, 2, 0) for each in features if type(each) is not nn.ReLU]
    for name, size, stride in (("28", 196, 16), ("30", 212, 32)):  # conv5_3 and pool5
        field = receptive_fields(features, picture, name, layers=layers)
        assert field.size == (size, size) and field.stride == (stride, stride) and not field.whole
        assert_follows(field, chain[: len(chain) - (name == "28")])


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet50(weights=None).eval()


def test_resnet50_has_the_published_field_which_is_larger_than_its_picture(resnet):
    """Published, 483 pixels, is that of the first ResNet-50, whose blocks step at their first convolution."""
    first = copy.deepcopy(resnet)
    for block in (first.layer2[0], first.layer3[0], first.layer4[0]):
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    picture = torch.zeros(1, 3, 320, 320)
    layers = describe(resnet, picture)  # of both: their layers have the same shapes
    for model, published in ((resnet, {1: 35, 4: 427}), (first, {2: 99, 3: 291, 4: 483})):
        for number, size in published.items():
            chain = [(7, 2, 3), (3, 2, 1)]
            for block in (block for stage in range(1, number + 1) for block in getattr(model, f"layer{stage}")):
                chain += [(1, block.conv1.stride[0], 0), (3, block.conv2.stride[0], 1)]
            field = receptive_fields(model, picture, f"layer{number}", layers=layers)
            assert field.size == (size, size)
            assert_follows(field, chain)


def test_with_several_paths_the_longest_counts():
    short = nn.Conv2d(3, 4, 1, stride=4)
    long = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 5, 2, 2))
    field = receptive_fields(Together(short, long), torch.zeros(1, 3, 64, 64), "")
    assert_follows(field, [(3, 2, 1), (5, 2, 2)])
    alone = receptive_fields(Together(short, long), torch.zeros(1, 3, 64, 64), "branches.0")
    assert (alone.size, alone.stride) == ((1, 1), (4, 4))


def test_one_layer_of_a_network_can_see_all_and_an_earlier_one_little():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=64, embed_dim=24, num_heads=2).eval()
    picture = torch.rand(1, 3, 64, 64)
    layers = describe(model, picture)
    patches = receptive_fields(model, picture, "patch_embed.proj", layers=layers)
    assert patches.size == patches.stride == (16, 16) and patches.box(1, 2) == (16, 32, 32, 48)
    tokens = receptive_fields(model, picture, "blocks.0.norm1", layers=layers)  # with a class token before the grid
    assert found_boxes(tokens) == found_boxes(patches) and not tokens.whole
    after_attention = receptive_fields(model, picture, "blocks.0", layers=layers)
    assert after_attention.whole and after_attention.size == after_attention.stride == (None, None)
    assert after_attention.box(0, 3) == (0, 0, 64, 64)


def test_torchs_own_attention_is_looked_into():
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3).eval()
    picture = torch.rand(1, 3, 32, 32)
    layers = describe(model, picture)
    for name in ("encoder.layers.encoder_layer_0.mlp.0", "encoder.layers.encoder_layer_1/add"):
        field = receptive_fields(model, picture, name, layers=layers)
        assert field.whole and not field.note


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_windows_see_themselves_and_moved_windows_their_neighbours_but_not_the_other_side(library):
    torch.manual_seed(0)
    if library == "timm":
        options = {"img_size": 64, "window_size": 4, "depths": (2, 2), "num_heads": (2, 2), "embed_dim": 16}
        model, names = timm.create_model("swin_tiny_patch4_window7_224", **options).eval(), "layers.0.blocks.{}"
    else:
        model = torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=3).eval()
        names = "features.1.{}"
    picture = torch.rand(1, 3, 64, 64)
    layers = describe(model, picture)
    first = receptive_fields(model, picture, names.format(0), layers=layers)
    assert first.rows.tolist() == [[row // 4 * 16, row // 4 * 16 + 16] for row in range(16)]
    assert first.size == (16, 16) and first.stride == (None, None) and not first.whole
    moved = receptive_fields(model, picture, names.format(1), layers=layers)
    expected = [[0, 16]] * 2 + [[16 * n, 16 * n + 32] for n in range(3) for _ in range(4)] + [[48, 64]] * 2
    assert moved.rows.tolist() == moved.columns.tolist() == expected
    # what lies outside the box of a place in the corner, where a window goes round, does not change it
    top, left, bottom, right = moved.box(0, 15)
    changed = torch.rand(1, 3, 64, 64)
    changed[:, :, top:bottom, left:right] = picture[:, :, top:bottom, left:right]
    outputs = []
    handle = model.get_submodule(names.format(1)).register_forward_hook(lambda m, a, output: outputs.append(output))
    with torch.no_grad():
        model(picture), model(changed)
    handle.remove()
    units = [output.reshape(16, 16, -1)[0, 15] for output in outputs]
    torch.testing.assert_close(*units, rtol=0, atol=1e-6)
    assert not torch.allclose(outputs[0], outputs[1])


def test_squeeze_and_excitation_sees_the_whole_picture_from_its_first_gate_on():
    torch.manual_seed(0)
    model, picture = torchvision.models.mobilenet_v3_small(weights=None).eval(), torch.zeros(1, 3, 96, 96)
    layers = describe(model, picture)
    before = receptive_fields(model, picture, "features.1.block.0", layers=layers)
    assert not before.whole and before.size == (7, 7) and before.stride == (4, 4)
    one = receptive_fields(model, picture, "features.1.block.1.avgpool", layers=layers)  # a map of one place
    gated = receptive_fields(model, picture, "features.1.block.1", layers=layers)
    assert one.whole and gated.whole and gated.exact
    assert one.rows.shape == (1, 2) and gated.rows.shape == (24, 2)


# what would hide pixels from a gradient


def support(model: nn.Module, picture: Tensor, layer: str, place: tuple[int, int]) -> tuple[int, int, int, int]:
    """The naive way: where the gradient of the model as it is is not zero."""
    outputs = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, a, output: outputs.append(output.sum(1)[0]))
    given = picture.clone().requires_grad_()
    model(given)
    handle.remove()
    (gradient,) = torch.autograd.grad(outputs[0][place], given, allow_unused=True, materialize_grads=True)
    return around((gradient[0] != 0).any(0).numpy())


def test_a_branch_that_begins_as_zero_is_seen():
    torch.manual_seed(0)
    model = timm.create_model("resnet18", zero_init_last=True).eval()
    picture = torch.rand(1, 3, 96, 96)
    assert support(model, picture, "layer1.1.bn2", (12, 12)) == (0, 0, 0, 0)  # the control
    field = receptive_fields(model, picture, "layer1.1.bn2")
    assert_follows(field, [(7, 2, 3), (3, 2, 1), *[(3, 1, 1)] * 4])
    assert field.size == (43, 43) and field.box(12, 12) == (27, 27, 70, 70)


def test_a_relu_that_is_off_and_a_pixel_that_loses_the_maximum_are_seen():
    conv = fixed(nn.Conv2d(1, 1, 3, padding=1), np.ones((1, 1, 3, 3)).tolist(), [-100.0])
    model = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2))
    picture = torch.rand(1, 1, 8, 8)
    assert support(model, picture, "1", (4, 4)) == (0, 0, 0, 0)
    assert receptive_fields(model, picture, "1").box(4, 4) == (3, 3, 6, 6)
    model[0].bias.data.zero_()
    assert support(model, picture, "2", (1, 1)) != (1, 1, 5, 5)
    assert receptive_fields(model, picture, "2").box(1, 1) == (1, 1, 5, 5)


def test_paths_that_cancel_are_seen():
    there, back = fixed(nn.Conv2d(1, 1, 1, bias=False), [1.0]), fixed(nn.Conv2d(1, 1, 1, bias=False), [-1.0])
    model, picture = (
        nn.Sequential(Together(there, back, add=True), nn.Conv2d(1, 1, 3, padding=1)),
        torch.rand(1, 1, 8, 8),
    )
    assert support(model, picture, "1", (4, 4)) == (0, 0, 0, 0)
    assert receptive_fields(model, picture, "1").box(4, 4) == (3, 3, 6, 6)


def test_layers_150_deep_do_not_run_out_of_numbers():
    torch.manual_seed(0)
    model = nn.Sequential(*[layer for _ in range(150) for layer in (nn.Conv2d(1, 1, 3, padding=1), nn.ReLU())])
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1e-3)
    picture = torch.rand(1, 1, 400, 16)
    assert support(model, picture, "299", (200, 8)) == (0, 0, 0, 0)
    field = receptive_fields(model, picture, "299")
    assert field.size == (301, None) and field.box(200, 8) == (50, 0, 351, 16)


ACTIVATIONS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU6(inplace=True),
    "function": Does(functional.relu),
    "method in place": Does(lambda maps: maps.relu_()),
    "swish by hand": Does(lambda maps: maps * torch.sigmoid(maps)),
    "relu6 by hand": Does(lambda maps: maps.clamp(0, 6)),
    "hard swish": Does(lambda maps: functional.hardswish(maps, inplace=True)),
    "chosen": Does(lambda maps: torch.where(maps > 0, maps, torch.zeros_like(maps))),
    "filled": Does(lambda maps: maps.masked_fill(maps < 0, 0.0)),
    "of two halves": nn.GLU(1),
    "learnt": nn.PReLU(4),
    "gelu": nn.GELU("tanh"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_leaves_the_field_as_it_is(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), ACTIVATIONS[name], nn.Conv2d(2 if "two" in name else 4, 4, 3))
    picture = torch.rand(1, 3, 12, 12)
    with assert_untouched(model):
        field = receptive_fields(model, picture, "2")
    assert field.size == (5, 5) and field.stride == (1, 1) and field.exact and not field.note
    assert receptive_fields(model, picture, "0").size == (3, 3)  # before what is written over it


# which call, which places


def test_each_call_of_a_layer_has_a_field_of_its_own_and_an_operation_has_one():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

        def forward(self, maps: Tensor) -> Tensor:
            return self.act(self.conv(self.act(self.conv(maps)))) + maps

    model, picture = Twice(), torch.zeros(1, 3, 12, 12)
    assert receptive_fields(model, picture, "conv").size == (3, 3)
    assert receptive_fields(model, picture, "act", 1).size == receptive_fields(model, picture, "/add").size == (5, 5)
    with pytest.raises(LayerNotExecuted, match="no call 3"):
        receptive_fields(model, picture, "conv", 2)
    with pytest.raises(LayerNotFound, match="Did you mean 'conv'"):
        receptive_fields(model, picture, "convo")


def test_rows_and_columns_hold_boxes_that_are_not_where_they_cross():
    turned = Does(lambda maps: torch.cat([maps, maps.transpose(2, 3)], 1))
    model = nn.Sequential(turned, nn.Conv2d(2, 1, 1))
    field = receptive_fields(model, torch.rand(1, 1, 6, 6), "1")
    assert not field.exact and not field.whole
    # a place on the diagonal sees one pixel, but its row looks at all rows, by way of the columns
    assert field.rows.tolist() == [[0, 6]] * 6 and field.box(2, 2) == (0, 0, 6, 6)


def test_an_operator_that_is_not_known_is_taken_to_see_all_and_the_field_says_so():
    turned = Does(lambda maps: functional.grid_sample(maps, torch.zeros(1, 4, 4, 2), align_corners=False))
    model = nn.Sequential(nn.Conv2d(1, 2, 3), turned, nn.Conv2d(2, 2, 1))
    field = receptive_fields(model, torch.rand(1, 1, 8, 8), "2")
    assert (
        field.whole and field.note == "Not looked into, and taken to depend on all that it is given: grid_sampler_2d."
    )
    assert not receptive_fields(model, torch.rand(1, 1, 8, 8), "0").note


def test_a_field_is_measured_where_the_picture_does_not_cut_it_off():
    def field(rows: list[list[int]], length: int) -> ReceptiveField:
        table = np.array(rows)
        return ReceptiveField("", 0, (length, length), table, table, True, False)

    cut = field([[0, 20], [0, 36], [12, 40], [28, 40]], 40)  # 40 long each, from -20, -4, 12, 28 on
    assert cut.stride == (16, 16) and cut.size == (40, 40)
    more = field([[0, 36], [0, 40], [12, 40]], 40)  # one free end and one free beginning, which are no neighbours
    assert more.stride == more.size == (None, None)
    assert field([[0, 20], [0, 36], [0, 52], [12, 68], [28, 80], [44, 80]], 80).size == (56, 56)
    assert field([[0, 8], [8, 16], [16, 24]], 24).stride == (8, 8)
    assert field([[0, 6], [0, 6], [6, 12], [6, 12], [12, 18], [12, 18]], 20).stride == (None, None)
    assert field([[2, 5]], 9).size == (3, 3) and field([[0, 5]], 9).size == (None, None)
    assert field([[0, 0], [0, 1], [1, 2], [2, 3], [3, 4], [0, 0]], 4).size == (1, 1)  # and two see padding alone


# the model, and what is refused


def test_the_model_is_handed_back_even_if_it_raises():
    class Fails(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            if self.fails:
                raise RuntimeError("broken on purpose")
            return maps

    last = Fails()
    last.fails = False
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), last, nn.Conv2d(4, 2, 1)).train()
    picture = torch.rand(1, 3, 8, 8)
    layers = describe(model, picture)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    expected = picture.clone()
    with assert_untouched(model):
        receptive_fields(model, picture, "4", layers=layers)
        effective_field(model, picture, "4", 0, (1, 1), layers=layers)
    last.fails = True
    with assert_untouched(model):
        for look in (
            lambda: receptive_fields(model, picture, "4", layers=layers),
            lambda: effective_field(model, picture, "4", 0, (1, 1), layers=layers),
        ):
            with pytest.raises(RuntimeError, match="broken on purpose"):
                look()
    assert torch.equal(picture, expected)


def test_a_look_can_be_cancelled():
    model, picture = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.rand(1, 3, 8, 8)
    layers = describe(model, picture)
    for look in (
        lambda: receptive_fields(model, picture, "1", layers=layers),
        lambda: effective_field(model, picture, "1", 0, (1, 1), layers=layers),
    ):
        with assert_untouched(model), looking(cancelled=Count(yes_from=2)), pytest.raises(Cancelled):
            look()


def test_a_model_that_was_made_in_inference_mode_has_fields():
    with torch.inference_mode():
        model = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(4, 2, 3, 2))
    field = receptive_fields(model, torch.rand(1, 3, 12, 12), "1")
    assert field.size == (5, 5) and not field.note


def test_what_has_no_field_is_refused_in_a_sentence():
    picture = torch.rand(1, 3, 8, 8)
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises(NoSpatialAxes, match="Layer '2' has no map to lay over the picture"):
        receptive_fields(flat, picture, "2")
    with pytest.raises(ModelNotSupported, match="one picture"):
        receptive_fields(flat, torch.rand(2, 3, 8, 8), "0")
    blind = nn.Sequential(Does(lambda maps: torch.from_numpy(maps.detach().numpy() * 2)), nn.Conv2d(3, 4, 3))
    with pytest.raises(HooksError, match="No value of layer '1' depends on the picture, as far as torch's operators"):
        receptive_fields(blind, picture, "1")
    thin = nn.Sequential(Does(lambda maps: maps.to_sparse().to_dense()), nn.Conv2d(3, 4, 3))
    with assert_untouched(thin), pytest.raises(ModelNotSupported, match="quantised, sparse or ragged tensors"):
        receptive_fields(thin, picture, "1")


# what a unit does depend on


def test_the_effective_field_of_a_convolution_is_its_squared_weights():
    weights = torch.tensor([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]])
    model = nn.Sequential(fixed(nn.Conv2d(1, 1, 3, padding=1, bias=False), weights.tolist()), nn.ReLU(inplace=True))
    picture = torch.ones(1, 1, 6, 8)
    field = effective_field(model, picture, "0", 0, (2, 5), share=0.7)
    expected = np.zeros((6, 8))
    expected[1:4, 4:7] = weights.square() / 20
    np.testing.assert_allclose(field.energy, expected, atol=1e-7)
    assert field.box == (2, 5, 3, 6) and field.centre == (2, 5) and field.held == pytest.approx(0.8)
    assert (field.layer, field.call, field.channel, field.place, field.value) == ("0", 0, 0, (2, 5), 8)
    assert effective_field(model, picture, "0", 0, (2, 5)).box == (1, 4, 4, 7)
    assert effective_field(model, picture, "0", 0, (0, 7), share=1.0).box == (0, 6, 2, 8)


def test_the_square_is_the_least_one_and_ends_at_the_edges():
    energy = np.zeros((5, 7))
    energy[0, 6], energy[1, 6], energy[4, 0] = 6, 3, 1
    assert smallest_square(energy, 0.6) == ((0, 6, 1, 7), (0, 6), 0.6)
    assert smallest_square(energy, 0.61) == ((0, 5, 2, 7), (0, 6), 0.9)
    assert smallest_square(energy, 0.91) == ((0, 0, 5, 7), (0, 6), 1)
    tenths = np.full((1, 10), 0.1)  # whose sum is not 1
    assert smallest_square(tenths, 1.0)[0] == (0, 0, 1, 10)


def test_a_unit_that_can_see_the_whole_picture_looks_at_its_surroundings(resnet):
    picture = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    layers = describe(resnet, picture)
    assert receptive_fields(resnet, picture, "layer4", layers=layers).whole
    with assert_untouched(resnet):
        field = effective_field(resnet, picture, "layer3.5.conv2", 3, (1, 8), layers=layers)
    top, left, bottom, right = field.box
    assert field.held >= 0.9 and field.energy.sum() == pytest.approx(1, abs=1e-4)
    assert field.energy[top:bottom, left:right].sum() == pytest.approx(field.held, abs=1e-4)
    assert (bottom - top) * (right - left) < 0.6 * 160 * 160
    assert abs(field.centre[0] - (1 * 16 + 8)) < 24 and abs(field.centre[1] - (8 * 16 + 8)) < 24


def test_tokens_have_effective_fields_at_their_places():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, embed_dim=24, num_heads=2).eval()
    field = effective_field(model, torch.rand(1, 3, 64, 64), "blocks.0.norm1", 5, (3, 1))
    rows, columns = np.nonzero(field.energy)
    assert rows.min() >= 48 and columns.min() >= 16 and columns.max() < 32


def test_an_effective_field_that_is_not_there_is_refused_in_a_sentence():
    model = nn.Sequential(fixed(nn.Conv2d(1, 1, 1), [1.0], [-5.0]), nn.ReLU())
    picture = torch.rand(1, 1, 4, 4)
    with pytest.raises(NoGradient, match="is zero at every pixel, as where a ReLU is off"):
        effective_field(model, picture, "1", 0, (1, 1))
    with pytest.raises(HooksError, match=r"1 channels of 4 x 4 places.*no channel 0 at row 4, column 1"):
        effective_field(model, picture, "1", 0, (4, 1))
    with pytest.raises(HooksError, match="no channel -1"):
        effective_field(model, picture, "1", -1, (0, 0))
    with pytest.raises(ValueError, match="give one above 0"):
        effective_field(model, picture, "1", 0, (1, 1), share=0.0)
    with pytest.raises(HooksError, match="of this unit of layer '1' is not finite"):
        effective_field(nn.Sequential(Does(torch.sqrt), nn.Conv2d(1, 1, 1)), torch.zeros(1, 1, 4, 4), "1", 0, (1, 1))
    detached = nn.Sequential(Does(lambda maps: maps.detach()), Does(lambda maps: maps * 2), nn.ReLU())
    with pytest.raises(NoGradient, match="Layer '2' has no gradient: its value was detached"):
        effective_field(detached, picture, "2", 0, (1, 1))


def test_doctests():
    for module in (looks, results):
        assert doctest.testmod(module, extraglobs={"torch": torch, "nn": nn}).failed == 0
