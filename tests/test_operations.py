"""Functional operations are layers: their values and gradients are those of a network split by hand."""

from __future__ import annotations

import doctest
import threading

import numpy as np
import pytest
import torch
import torchvision
from helpers import Ran, assert_untouched, maps_or_raise, streamed
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint
from torchvision.models.feature_extraction import create_feature_extractor

import hookscope.hooks.passes.operations
from hookscope.hooks.errors import LayerNotExecuted, LayerNotFound
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.names import first_names, select
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.capture import Numbers, capture, stream
from hookscope.hooks.passes.operations import Namer, function_name
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.passes.running import Stack, following
from hookscope.hooks.results.looks import Activation, GradCam


def as_it_is(name: str, value: Tensor) -> Tensor:
    return value


class Functional(nn.Module):
    """A network of functions; `keep` is given each value by name, so that a test can split it there by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(64, 5)

    def forward(self, x: Tensor, keep=as_it_is) -> Tensor:
        y = keep("/relu", functional.relu(x - 0.1))
        y = self.conv(y)
        y += keep("/mean", x.mean(1, keepdim=True))
        y = keep("/add", y)
        y = functional.relu(y, inplace=True)
        y = keep("/cat", torch.cat([y, -y], 1))
        y = keep("/interpolate", functional.interpolate(y, size=(4, 4), mode="bilinear"))
        tokens = y.flatten(2).transpose(1, 2)
        scores = keep("/matmul", tokens @ tokens.transpose(1, 2))
        y = keep("/matmul@2", keep("/softmax", (scores / 4).softmax(-1)) @ tokens)
        y = y + keep("/scaled_dot_product_attention", functional.scaled_dot_product_attention(y, tokens, tokens))
        return self.head(keep("/flatten@2", y[:, :, :4].flatten(1)))


NAMES = [
    *("/relu", "/mean", "/add", "/cat", "/interpolate", "/matmul", "/softmax", "/matmul@2"),
    *("/scaled_dot_product_attention", "/flatten@2"),
]


@pytest.fixture(scope="module")
def toy() -> Functional:
    torch.manual_seed(0)
    return Functional().eval()


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small() -> Tensor:
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def sums(model: nn.Module, block: str, image: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """A ResNet block's sum and its gradient: what its ReLU is given the second time, with zeros added to it."""
    values: list[Tensor] = []
    zeros: list[Tensor] = []

    def add(module, args):
        values.append(args[0].detach().clone())
        zeros.append(torch.zeros_like(args[0], requires_grad=True))
        return (args[0] + zeros[-1],)

    handle = model.get_submodule(block).relu.register_forward_pre_hook(add)
    score = model(image)[0, target]
    handle.remove()
    return values[1], torch.autograd.grad(score, zeros[1])[0]


# values and gradients


def test_values_and_gradients_equal_those_of_a_network_split_by_hand(toy, small):
    values: dict[str, Tensor] = {}
    zeros: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> Tensor:
        values[name] = value.detach().clone()
        zeros[name] = torch.zeros_like(value, requires_grad=True)
        return value + zeros[name]

    gradients = dict(zip(NAMES, torch.autograd.grad(toy(small, keep)[0, 2], [zeros[n] for n in NAMES]), strict=True))
    with assert_untouched(toy), capture(toy, NAMES, gradients=True) as seen:
        logits = toy(small.clone().requires_grad_())  # or the first ReLU would be in no graph
    seen.differentiate(logits[0, 2])
    assert [record.layer for record in seen] == NAMES  # in execution order
    for name in NAMES:
        assert torch.equal(seen[name].value, values[name]), name
        torch.testing.assert_close(seen[name].gradient, gradients[name], rtol=1e-6, atol=1e-9)
        assert gradients[name].abs().max() > 0
    assert seen["/add"].value.min() < 0  # although an in-place ReLU follows


class Zeros(TorchFunctionMode):
    """Adds zeros that require grad to the value of every operation that is listed, and keeps both."""

    def __init__(self, stack: Stack, listed: set[str]) -> None:
        super().__init__()
        self.namer, self.listed = Namer(stack), listed
        self.values: dict[str, Tensor] = {}
        self.zeros: dict[str, Tensor] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        found = self.namer.operation(func, args, kwargs or {}, result)
        if found is None or found.name not in self.listed or not isinstance(result, Tensor):
            return result
        self.values[found.name] = result.detach().clone()
        self.zeros[found.name] = torch.zeros_like(result, requires_grad=True)
        return result + self.zeros[found.name]


@pytest.mark.parametrize(
    "name",
    ["densenet121", "efficientnet_b0", "googlenet", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "swin_t"],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
def test_every_operation_of_a_real_model_equals_the_zero_leaf_oracle(name, image):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    listed = [info.name for info in describe(model, image) if info.operation]
    names = first_names(model)
    stack = Stack(names)
    with following(names, stack), Zeros(stack, set(listed)) as oracle:
        score = model(image)[0, 3]
    expected = dict(zip(oracle.zeros, torch.autograd.grad(score, list(oracle.zeros.values())), strict=True))
    with capture(model, listed, gradients=True) as seen:
        logits = model(image.clone().requires_grad_())
    seen.differentiate(logits[0, 3])
    assert expected.keys() == set(listed) and len(listed) >= 9
    for operation in listed:
        assert torch.equal(seen[operation].value, oracle.values[operation]), operation
        gradient = seen[operation].gradient
        assert gradient is not None, (operation, seen[operation].reason_no_gradient)
        atol = 1e-6 * float(expected[operation].abs().max())
        torch.testing.assert_close(gradient, expected[operation], rtol=1e-4, atol=atol)


def test_a_resnets_sum_before_its_in_place_relu(resnet, image):
    names = ["layer1.0/add", "layer4.1/add"]
    with capture(resnet, names, gradients=True) as seen:
        logits = resnet(image)
    seen.differentiate(logits[0, 3])
    for name in names:
        value, gradient = sums(resnet, name.partition("/")[0], image, 3)
        assert torch.equal(seen[name].value, value) and torch.equal(seen[name].gradient, gradient)
        assert value.min() < 0 and gradient.abs().max() > 0
    # the tracer of torchvision keeps what the ReLU has written over the sum
    traced = create_feature_extractor(resnet, ["layer1.0.add", "fc"])(image)["layer1.0.add"]
    assert traced.min() == 0 > seen["layer1.0/add"].value.min()


def test_grad_cam_of_a_sum_equals_the_zero_leaf_oracle(resnet, image):
    layers = describe(resnet, image)
    found: list[GradCam] = []
    with assert_untouched(resnet):
        found += maps_or_raise(grad_cam(resnet, image, [("layer4.0/add", 0)], 3, layers))
    value, gradient = sums(resnet, "layer4.0", image, 3)
    expected = (gradient.mean((2, 3), keepdim=True) * value).sum(1)[0]
    np.testing.assert_allclose(found[0].values, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    assert found[0].layer == "layer4.0/add" and np.abs(found[0].values).max() > 0


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "swin_t"])
def test_the_output_is_bit_identical(name, gradients, image):
    torch.manual_seed(0)
    options = {"image_size": 64} if name == "vit_b_16" else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    nn.init.normal_(model.heads.head.weight) if name == "vit_b_16" else None  # zeros in torchvision
    with torch.set_grad_enabled(gradients):
        expected = model(image)
        chosen = [info.name for info in describe(model, image) if info.operation]
        with assert_untouched(model), capture(model, chosen) as seen:
            found = model(image)
    assert torch.equal(found, expected) and expected.abs().max() > 0
    assert {record.layer for record in seen} == set(chosen)


def test_statistics_of_an_operation_keep_no_tensor(resnet, image):
    with torch.no_grad(), capture(resnet, "layer1.0/add", numbers="exact") as seen:
        resnet(image)
    record = seen["layer1.0/add"]
    assert record.value is None and record.statistics.min < 0 < record.statistics.zeros + record.statistics.max


# names


def test_doctests():
    assert doctest.testmod(hookscope.hooks.passes.operations).failed == 0


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x + 1, "add"),
        (lambda x: 1 + x, "add"),
        (lambda x: x.add_(1), "add"),
        (lambda x: 1 - x, "sub"),
        (lambda x: x - 1, "sub"),
        (lambda x: x * 2, "mul"),
        (lambda x: x / 2, "div"),
        (lambda x: 2 / x, "div"),
        (lambda x: x @ x, "matmul"),
        (lambda x: x.relu_(), "relu"),
        (functional.relu, "relu"),
        (lambda x: torch.concat([x, x]), "cat"),
    ],
)
def test_an_operator_a_function_and_a_method_have_one_name(call, expected):
    class Does(nn.Module):
        def forward(self, x):
            return call(x.clone())

    model = nn.Sequential(Does())
    with capture(model, f"0/{expected}") as seen:
        output = model(torch.rand(2, 2))
    assert torch.equal(seen[f"0/{expected}"].value, output)


class Twice(nn.Module):
    """Calls a block twice; the block adds twice in each of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Adds()
        self.alias = self.block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x)) + 100


class Adds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 1) + 10


def test_the_second_operation_of_a_call_and_the_second_call_of_an_operation():
    model = Twice()
    with capture(model, ["block/add", "block/add@2", "/add"]) as seen:
        model(torch.zeros(1, 1))
    keys = [(record.layer, record.call, record.value.item()) for record in seen]
    assert keys == [
        *[("block/add", 0, 1), ("block/add@2", 0, 11), ("block/add", 1, 12), ("block/add@2", 1, 22)],
        ("/add", 0, 122),
    ]
    assert seen["alias/add", 1] is seen["block/add", 1]


def test_a_glob_before_the_slash(resnet):
    assert list(select(resnet, ["layer[12].?/add", "fc"])) == [
        *("fc", "layer1.0/add", "layer1.1/add", "layer2.0/add", "layer2.1/add"),
    ]
    assert Finder(resnet).find("layer1.0/add") == ("layer1.0/add", resnet.layer1[0])


def test_names_that_lead_nowhere(resnet, image):
    with pytest.raises(LayerNotFound, match=r"Did you mean 'layer1\.0"):
        Finder(resnet).find("layer1.00/add")
    with pytest.raises(LayerNotFound), capture(resnet, "layer1.0/a*"):
        resnet(image)
    layers = describe(resnet, image)
    with pytest.raises(LayerNotExecuted, match=r"No operation 'mul' .*'layer1\.0'.* are 'layer1\.0/add'"):
        streamed(resnet, image, [("layer1.0/mul", 0)], layers)
    with torch.no_grad(), capture(resnet, "layer1.0/mul") as seen:
        resnet(image)
    with pytest.raises(LayerNotExecuted):
        seen["layer1.0/mul"]


def test_names_of_the_functions():
    assert function_name(torch.ops.aten.relu) == "relu"
    assert function_name(functional.interpolate) == "interpolate"


# what is listed


def test_described_operations_of_a_resnet(resnet, image):
    found = {info.name: info for info in describe(resnet, image) if info.operation}
    assert list(found) == [f"layer{stage}.{block}/add" for stage in (1, 2, 3, 4) for block in (0, 1)] + ["/flatten"]
    info = found["layer2.0/add"]
    assert (info.type, info.parameters, info.leaf, len(info.calls)) == ("add", 0, True, 1)
    assert info.calls[0].axes == ("image", "channel", "height", "width") and info.calls[0].shape == (1, 128, 8, 8)
    assert info.calls[0].overwritten_by == "layer2.0.relu"
    block = next(each for each in describe(resnet, image) if each.name == "layer2.0.bn2")
    assert block.calls[0].order < info.calls[0].order


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.leaf, self.conv = Negated(), nn.Conv2d(3, 3, 1)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4 and x.shape[1] == x.size(1) == 3 and bool((x == x).all())
        mask = x.new_zeros(1, 3, 1, 1)
        mask[:, 0] = 1
        buffer = torch.zeros_like(x)
        buffer[:] = x
        x = self.conv(self.leaf(buffer * 2)).permute(0, 2, 3, 1).permute(0, 3, 1, 2).contiguous()
        return x * (self.scale.exp() + mask.tanh())


class Negated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -(x + 1)


def test_only_operations_that_compute_values_of_the_image_are_listed():
    layers = describe(Listed(), torch.rand(1, 3, 2, 2))
    # no shapes, views, comparisons; no functions of weights; and `leaf`'s negation is the layer `leaf`
    assert [info.name for info in layers if info.operation] == ["/mul", "leaf/add", "/mul@2"]


@pytest.mark.parametrize(
    ("name", "operation", "axes", "grid"),
    [
        ("vit_b_16", "/cat", ("image", "token", "channel"), (4, 4)),
        ("vit_b_16", "encoder.layers.encoder_layer_3/add@2", ("image", "token", "channel"), (4, 4)),
        ("swin_t", "features.1.0/add", ("image", "height", "width", "channel"), None),
        ("swin_t", "features.1.0.attn/softmax", ("axis", "axis", "axis", "axis"), None),
        ("googlenet", "inception3a/cat", ("image", "channel", "height", "width"), None),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
def test_axes_of_operations(name, operation, axes, grid, image):
    options = {"image_size": 64} if name == "vit_b_16" else {}
    layers = {info.name: info for info in describe(torchvision.models.get_model(name, weights=None, **options), image)}
    assert (layers[operation].calls[0].axes, layers[operation].calls[0].grid) == (axes, grid)


# one forward pass that stops


def collect(model, inputs, wanted) -> list[Activation]:
    return streamed(model, inputs, wanted)


def test_a_stream_delivers_operations_and_stops_after_the_last(resnet, image):
    layers = describe(resnet, image)
    ran, found = Ran(), []
    handle = resnet.layer1[1].register_forward_pre_hook(ran)
    with assert_untouched(resnet):
        found += streamed(resnet, image, [("layer1.0/add", 0), ("layer1.0.conv1", 0)], layers)
    handle.remove()
    assert [result.layer for result in found] == ["layer1.0.conv1", "layer1.0/add"] and ran.times == 0
    assert found[1].axes == ("channel", "height", "width") and found[1].values.min() < 0


class Swallows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:
            y = x + 1
        except Exception:
            y = -x
        return y * 2


def test_the_stop_and_the_receivers_error_pass_a_models_own_except():
    assert collect(nn.Sequential(Swallows()), torch.ones(1, 2), [("0/add", 0)])[0].values.tolist() == [2, 2]

    def receive(*result: object) -> None:
        raise ValueError("no room")

    model = nn.Sequential(Swallows())
    with pytest.raises(ValueError, match="no room"):
        stream(model, torch.ones(1, 2), [("0/add", 0)], receive, describe(model, torch.ones(1, 2)))
    assert not _get_current_function_mode_stack()


# what it costs, and whom it reaches


def test_nothing_is_watched_unless_an_operation_is_asked_for(resnet, image):
    modes: list[int] = []
    handle = resnet.fc.register_forward_hook(lambda *_: modes.append(len(_get_current_function_mode_stack())))
    with torch.no_grad():
        with capture(resnet, "fc"):
            resnet(image)
            plain = len(live_hooks())
        with capture(resnet, "layer4.1/add"):
            resnet(image)
            watching = len(live_hooks())
    handle.remove()
    # instead of one hook, two on the block and on each of its parts; the rest of the model has none
    assert modes == [0, 1] and watching - (plain - 1) == 2 * len(list(resnet.layer4[1].modules()))


def test_another_threads_forward_pass_is_not_seen(resnet, image):
    with torch.no_grad(), capture(resnet, ["layer1.0/add"]) as seen:
        thread = threading.Thread(target=resnet, args=(image,))
        thread.start()
        thread.join()
        assert len(seen) == 0
        resnet(image)
    assert len(seen) == 1


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Adds()

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.block, x, use_reentrant=False)


def test_an_operation_that_is_computed_again_in_the_backward_pass_counts_once():
    model = Checkpointed()
    with capture(model, "block/add") as seen:
        model(torch.ones(1, 1, requires_grad=True)).sum().backward()
    assert [record.call for record in seen] == [0]


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0] + x


def test_an_attention_that_fails_leaves_functions_watched():
    model = Attends().eval()
    with torch.no_grad(), capture(model, "/add") as seen:
        with pytest.raises(RuntimeError):
            model(torch.rand(1, 3, 4), torch.zeros(2, 7))
        model(torch.rand(1, 3, 4))
    assert len(seen) == 1


def test_an_operations_statistics_per_channel_are_those_of_the_sum_that_plain_hooks_see():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    images = torch.randn(2, 3, 64, 64)
    parts: dict[str, list[Tensor]] = {"layer1.0": [], "layer2.0": []}
    handles = []
    for name, kept in parts.items():
        block = model.get_submodule(name)
        for module in (block.bn2, *(() if block.downsample is None else (block.downsample,))):
            handles.append(module.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output.clone())))
        if block.downsample is None:
            handles.append(block.register_forward_pre_hook(lambda _, args, kept=kept: kept.append(args[0].clone())))
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    layers = describe(model, images[:1])
    names = [f"{name}/add" for name in parts]
    with torch.no_grad(), capture(model, names, numbers=Numbers(layers=layers)) as seen:
        model(images)
        model(images * 2)  # another pass of the same calls
    assert [(record.layer, record.call) for record in seen] == [(name, n) for n in (0, 1) for name in names]
    for name, (first, second) in parts.items():
        sums = (first + second).double()
        channels = seen[f"{name}/add", 0].statistics.channels
        assert len(channels["mean"]) == sums.shape[1]
        for key, values in {
            "mean": sums.mean((0, 2, 3)),
            "std": sums.std((0, 2, 3), correction=0),
            "min": sums.amin((0, 2, 3)),
            "max": sums.amax((0, 2, 3)),
            "zeros": (sums == 0).double().mean((0, 2, 3)),
        }.items():
            assert channels[key] == pytest.approx(values.numpy(), rel=1e-9, abs=1e-12)
        assert len(seen[f"{name}/add", 1].statistics.channels["mean"]) == sums.shape[1]
        assert not np.allclose(seen[f"{name}/add", 1].statistics.channels["mean"], channels["mean"])
    with torch.no_grad(), capture(model, names, numbers="exact") as unknown:
        model(images)
    assert all(not record.statistics.channels for record in unknown)


def test_channels_last_are_found_where_the_recorded_run_says_so():
    torch.manual_seed(0)
    model = torchvision.models.swin_t(weights=None).eval()
    image = torch.randn(1, 3, 64, 64)
    layers = describe(model, image)
    names = ["features.1.0/add", "features.1.0.norm1", "flatten", "/flatten"]
    names = [name for name in names if name in {info.name for info in layers}]
    with torch.no_grad(), capture(model, names) as full:
        model(image)
    with torch.no_grad(), capture(model, names, numbers=Numbers(layers=layers)) as seen:
        model(image)
    for name in names[:2]:
        values = full[name].value.double().reshape(-1, 96)  # (image, height, width, channel)
        assert full[name].shape == (1, 16, 16, 96)
        assert seen[name].statistics.channels["mean"] == pytest.approx(values.mean(0).numpy(), rel=1e-9, abs=1e-12)
    assert len(names) > 2 and all(not seen[name].statistics.channels for name in names[2:])  # features are no channels
