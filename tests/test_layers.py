"""Names and patterns, and what one recorded forward pass says of every layer of real models."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

import pytest
import torch
import torchvision
from helpers import assert_untouched, four_pixels
from torch import nn

from hookscope.hooks.errors import LayerNotFound, ModelNotSupported
from hookscope.hooks.layers import recording
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.names import aliases, named_layers, select
from hookscope.hooks.results.looks import LayerInfo

IMAGE = torch.zeros(1, 3, 224, 224)


def build(name: str) -> nn.Module:
    options = {"init_weights": False} if name == "googlenet" else {}  # its own initialisation takes 20 s
    return torchvision.models.get_model(name, weights=None, **options)


@functools.cache
def described(name: str) -> dict[str, LayerInfo]:
    """The layers of a torchvision model at random weights, by name."""
    torch.manual_seed(0)
    return {info.name: info for info in describe(build(name), torch.randn(1, 3, 224, 224))}


class Shared(nn.Module):
    """One linear layer under three names, called twice; and one that is never called."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = self.first
        self.block = nn.Sequential(self.first, nn.ReLU())
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.block(x))


def python_calls(act: Callable[[], object]) -> int:
    """How many functions Python calls: the work that something takes, however fast the machine is."""
    counted = [0]

    def count(frame: object, event: str, argument: object) -> None:
        counted[0] += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return counted[0]


class Tokens(nn.Module):
    """Blocks that hand tokens on after a picture's grid, as a transformer does."""

    def __init__(self, count: int):
        super().__init__()
        self.stem = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(count)])
        self.blocks = nn.Sequential(*[nn.Linear(3, 3) for _ in range(count)])

    def forward(self, x):
        return self.blocks(self.stem(x).flatten(2).transpose(1, 2)[:, :-1])


class Adding(nn.Module):
    def __init__(self, count: int):
        super().__init__()
        self.parts = nn.ModuleList([nn.Identity() for _ in range(count)])

    def forward(self, x):
        for part in self.parts:
            x = part(x) + 1
        return x


@pytest.mark.parametrize(
    "build_of",
    [
        lambda count: nn.Sequential(*[nn.ReLU(inplace=True) for _ in range(count)]),
        lambda count: nn.Sequential(*[nn.Identity() for _ in range(count)]),
        lambda count: nn.Sequential(*[nn.Sequential(*[nn.ReLU() for _ in range(10)]) for _ in range(count // 10)]),
        Tokens,
        Adding,
    ],
    ids=["in place", "identities", "nested", "tokens", "operations"],
)
def test_describing_takes_twice_as_long_for_twice_as_many_layers(build_of):
    image = torch.randn(1, 3, 6, 6)
    describe(build_of(10), image)  # what is imported on the way is not counted
    few, many = (python_calls(functools.partial(describe, build_of(count), image)) for count in (150, 300))
    assert many < 2.2 * few


def test_describing_watches_the_models_functions_and_not_its_own(monkeypatch):
    """Each layer is asked some forty things; taken for the model's calls they were most of the time."""
    seen = []
    see = recording._Run.see
    monkeypatch.setattr(recording._Run, "see", lambda run, *call: (seen.append(call[0]), see(run, *call)))
    describe(nn.Sequential(*[nn.Identity() for _ in range(50)]), torch.zeros(1, 3, 4, 4))
    assert len(seen) < 50


# names and patterns


def test_a_shared_module_is_one_layer_with_aliases():
    model = Shared()
    assert list(named_layers(model)) == ["", "first", "block", "block.1", "unused"]
    assert aliases(model)["block.0"] == aliases(model)["second"] == "first"
    assert Finder(model).find("block.0") == ("first", model.first)
    assert select(model, "second") == {"first": model.first}


@pytest.mark.parametrize(
    "patterns, names",
    [
        ("layer1.0.conv1", ["layer1.0.conv1"]),
        ("", [""]),
        ("layer1.*.conv1", ["layer1.0.conv1", "layer1.1.conv1"]),
        ("/^layer[12]$/", ["layer1", "layer2"]),
        (["layer2", "layer1"], ["layer1", "layer2"]),
        (["conv1", "conv?", "/^conv1$/"], ["conv1"]),
        (":MaxPool2d", ["maxpool"]),
        (nn.MaxPool2d, ["maxpool"]),
        ([nn.MaxPool2d, "fc"], ["maxpool", "fc"]),
    ],
)
def test_patterns(patterns, names):
    assert list(select(build("resnet18"), patterns)) == names


def test_types_include_subclasses_and_globs():
    model = build("resnet18")
    assert len(select(model, ":Conv2d")) == len(select(model, nn.Conv2d)) == 20
    assert len(select(model, ":_ConvNd")) == 20
    assert len(select(model, ":Batch*")) == 20


@pytest.mark.parametrize(
    "pattern, parts",
    [
        ("layer2.0.conv11", ["ResNet has no layer 'layer2.0.conv11'", "'layer2.0.conv1'", "'layer2.0.conv2'"]),
        ("layer9.*", ["no layer whose name matches 'layer9.*'", "'conv1'"]),
        ("/laier/", ["no layer whose name matches '/laier/'"]),
        (":Conv2D", ["no layer of type 'Conv2D'", "'Conv2d'"]),
        (nn.LSTM, ["no layer of type 'LSTM'"]),
        ("/(/", ["not a regular expression"]),
        ("layer1.5.x", ["Did you mean 'layer1."]),
        ("nonsense", ["ResNet has no layer 'nonsense'", "lists the names"]),
    ],
)
def test_a_pattern_without_a_layer_says_what_is_near(pattern, parts):
    with pytest.raises(LayerNotFound) as caught:
        select(build("resnet18"), pattern)
    for part in parts:
        assert part in str(caught.value)


def test_find_suggests_names():
    with pytest.raises(LayerNotFound, match=r"Did you mean 'layer2\.0\.conv1'"):
        Finder(build("resnet18")).find("layer2.0.conv11")


def test_wrappers_leave_no_trace_in_names():
    model = four_pixels()[0]
    compiled = torch.compile(model, backend="eager")
    assert list(named_layers(compiled)) == list(named_layers(model)) == ["", "0", "1", "2", "3", "4"]
    assert list(named_layers(nn.DataParallel(model))) == list(named_layers(model))
    outer = nn.Sequential(torch.compile(nn.Sequential(nn.Linear(2, 2)), backend="eager"), nn.ReLU())
    assert list(named_layers(outer)) == ["", "0", "0.0", "1"]


# the recorded run


def test_four_pixels():
    model, image = four_pixels()
    with assert_untouched(model):
        root, conv, relu, pool, flatten, linear = describe(model, image)
    assert [info.name for info in (root, conv, relu, pool, flatten, linear)] == ["", "0", "1", "2", "3", "4"]
    assert [info.calls[0].order for info in (conv, relu, pool, flatten, linear, root)] == [0, 1, 2, 3, 4, 5]
    assert conv.calls[0].shape == (1, 2, 2, 2) and conv.calls[0].axes == ("image", "channel", "height", "width")
    assert linear.calls[0].axes == ("image", "feature")
    assert (conv.multiply_adds, linear.multiply_adds, root.multiply_adds) == (8, 4, 12)
    assert (conv.parameters, linear.parameters, root.parameters) == (2, 4, 6)
    assert conv.calls[0].overwritten_by == "1" and relu.calls[0].overwritten_by == ""
    assert conv.leaf and not root.leaf and root.type == "Sequential"


def test_multiply_adds_are_of_one_image():
    model, image = four_pixels()
    assert describe(model, image.expand(5, -1, -1, -1))[0].multiply_adds == 12


def test_calls_and_aliases_of_a_shared_module():
    layers = {info.name: info for info in describe(Shared(), torch.zeros(1, 4))}
    assert [call.order for call in layers["first"].calls] == [0, 3]
    assert layers["first"].aliases == ("second", "block.0")
    assert layers["first"].multiply_adds == layers[""].multiply_adds == 32
    assert layers["unused"].calls == () and layers["unused"].multiply_adds is None
    assert "not known" in layers["unused"].reason_not_run


@pytest.mark.parametrize(
    "name, millions",
    # torchvision's own documentation of its weights, in thousand millions of multiply-adds, to its two decimals
    [("resnet18", 1814), ("vit_b_16", 17564), ("swin_t", 4491), ("efficientnet_b0", 386), ("alexnet", 714)],
)
def test_multiply_adds_agree_with_the_published_ones(name, millions):
    assert round(described(name)[""].multiply_adds / 1e6) == millions


def test_every_overwritten_value_is_named():
    layers = described("alexnet")
    assert layers["features.0"].calls[0].overwritten_by == "features.1"
    assert layers["features.1"].calls[0].overwritten_by == ""
    layers = described("resnet18")
    assert layers["layer1.0.bn1"].calls[0].overwritten_by == "layer1.0.relu"
    assert layers["layer1.0.bn2"].calls[0].overwritten_by == "an in-place operation"  # out += identity
    assert layers["layer1.0.conv1"].calls[0].overwritten_by == ""
    assert layers["layer1.0"].calls[0].overwritten_by == ""


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v2", "googlenet", "efficientnet_b0"])
def test_overwritten_means_that_the_values_changed_and_not_overwritten_that_they_did_not(name):
    torch.manual_seed(0)
    model = build(name).eval()
    image = torch.randn(1, 3, 224, 224)
    layers = {info.name: info for info in describe(model, image)}
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    handles = [
        module.register_forward_hook(
            lambda module, args, output, name=name: seen.setdefault(name, []).append((output, output.clone()))
        )
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    for layer, calls in seen.items():
        for call, (kept, copied) in zip(layers[layer].calls, calls, strict=True):
            if not torch.equal(kept, copied):
                assert call.overwritten_by, layer
            elif call.overwritten_by:  # a ReLU6 may find nothing to change
                assert kept._version > 0, layer


def test_reused_relus_keep_every_call():
    layers = described("resnet18")
    assert len(layers["layer1.0.relu"].calls) == 2
    relus = [info for info in layers.values() if info.type == "ReLU"]
    assert (len(relus), sum(len(info.calls) for info in relus)) == (9, 17)


def test_orders_count_every_call_once_and_containers_end_after_their_children():
    layers = described("resnet18")
    orders = sorted(call.order for info in layers.values() for call in info.calls)
    assert orders == list(range(len(orders)))
    for name, info in layers.items():
        for child in layers.values():
            if child.name.startswith(f"{name}.") and child.calls and info.calls:
                assert child.calls[-1].order < info.calls[-1].order


def test_layers_that_did_not_run_say_why():
    layers = described("googlenet")
    assert layers["aux1"].calls == () and "only in training" in layers["aux1"].reason_not_run
    assert layers["aux2.conv.conv"].reason_not_run == "Nothing in 'aux2.conv' ran in this forward pass."
    layers = described("vit_b_16")
    attention = "encoder.layers.encoder_layer_0.self_attention"
    assert layers[f"{attention}.out_proj"].reason_not_run == "MultiheadAttention uses its weights without calling it."
    assert layers[attention].calls[0].outputs == 1  # need_weights=False: (tensor, None)
    layers = described("maxvit_t")
    assert layers["blocks"].reason_not_run == "ModuleList only holds other layers and is never called itself."
    assert layers["blocks"].multiply_adds > 5e9
    assert all(bool(info.calls) != bool(info.reason_not_run) for info in layers.values())


def test_dict_outputs_of_a_segmenter():
    torch.manual_seed(0)
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    layers = {info.name: info for info in describe(model, torch.randn(1, 3, 64, 96))}
    assert layers[""].calls[0].shape == (1, 21, 64, 96)
    assert layers[""].calls[0].axes == ("image", "channel", "height", "width")
    assert layers["backbone"].calls[0].outputs == 2


def test_a_model_in_training_mode_is_described_in_eval_and_handed_back():
    model = build("resnet18").train()
    model.layer1.eval()
    model.conv1.weight.grad = torch.ones_like(model.conv1.weight)
    image = torch.randn(1, 3, 64, 64)
    with assert_untouched(model):
        describe(model, image)


def test_frozen_models_and_integer_inputs():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)).requires_grad_(False)
    layers = describe(model, torch.tensor([[1, 2, 3]]))
    assert layers[0].multiply_adds == 24
    vit = build("vit_b_32").requires_grad_(False)
    assert describe(vit, IMAGE)[0].multiply_adds > 4.3e9


class NoGraph(nn.Module):
    """Fails when autograd records: it writes into its own weight."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        self.inner.weight.mul_(1)
        return self.inner(x)


def test_a_model_that_cannot_build_a_graph_is_described_without_counts():
    root, inner = (info for info in describe(NoGraph(), torch.zeros(1, 2)) if not info.operation)
    assert inner.calls[0].shape == (1, 2) and inner.multiply_adds is None and root.multiply_adds is None


def test_the_models_own_error_comes_through_and_nothing_is_left():
    model = four_pixels()[0]
    with assert_untouched(model), pytest.raises(RuntimeError, match="expected input"):
        describe(model, torch.zeros(1, 3, 4, 4))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused_in_a_sentence():
    scripted = torch.jit.trace(four_pixels()[0], four_pixels()[1])
    with pytest.raises(ModelNotSupported, match="TorchScript"):
        describe(scripted, four_pixels()[1])


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_child_is_described_as_not_seen():
    child = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    layers = describe(nn.Sequential(child, nn.ReLU()), torch.zeros(1, 2))
    assert "TorchScript" in layers[1].reason_not_run and layers[2].calls


def test_a_compiled_child_runs_eagerly_and_is_seen():
    model = nn.Sequential(torch.compile(nn.Sequential(nn.Linear(2, 2)), backend="eager"), nn.ReLU())
    model(torch.zeros(1, 2))
    assert [len(info.calls) for info in describe(model, torch.zeros(1, 2))] == [1, 1, 1, 1]
    whole = torch.compile(four_pixels()[0], backend="eager")
    whole(four_pixels()[1])
    assert all(info.calls for info in describe(whole, four_pixels()[1]))
    torch._dynamo.reset()


def test_calls_that_will_not_come_are_explained():
    model = Shared()
    finder = Finder(model, describe(model, torch.zeros(1, 4)))
    assert finder.not_executed("first", 1) is None and finder.not_executed("block.0", 0) is None
    assert "is called 2 times" in str(finder.not_executed("second", 2))
    assert "'unused' (Linear) did not run" in str(finder.not_executed("unused", 0))
    assert "is called once" in str(finder.not_executed("", 1))
    assert finder.not_executed("nobody", 0) is None
