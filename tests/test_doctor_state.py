"""What a forward pass finds in training mode, what draws random numbers, and what with weights never runs."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from doctor_models import LITE, WAYS, default_model, healthy, lite, normalise, photographs, trained, unsettled
from helpers import assert_untouched
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.doctor.state import training_mode
from hookscope.hooks.doctor.unused import unused_modules
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.findings import Finding, Known

SPECS = ("torchvision:resnet18", "torchvision:googlenet", "timm:convnext_atto", "timm:deit_tiny_patch16_224")
DETECTOR = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"


def patient(model: nn.Module, pictures: Tensor | None = None, known: Known | None = None) -> Patient:
    pictures = normalise(photographs(4), *LITE) if pictures is None else pictures[:4]
    return Patient(model, [pictures], np.full(len(pictures), -1), known or Known())


def state_of(model: nn.Module, pictures: Tensor | None = None, known: Known | None = None) -> list[Finding]:
    """What the rule finds, the model, its statistics and the random numbers left as they were."""
    with assert_untouched(model):
        found = list(training_mode(patient(model, pictures, known)))
    assert not live_hooks()
    return found


def unused_of(model: nn.Module, pictures: Tensor | None = None, known: Known | None = None) -> list[Finding]:
    with assert_untouched(model):
        found = list(unused_modules(patient(model, pictures, known)))
    assert not live_hooks()
    return found


class Net(nn.Module):
    """A convolution, what is tried behind it, and a head."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.inner = nn.Conv2d(3, 8, 3), nn.Sequential(*inner)
        self.head = nn.Linear(8, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.inner(self.conv(pictures)).mean((2, 3)))


PICTURES = torch.rand(4, 3, 12, 12)


# --- training mode


@pytest.mark.parametrize("number", range(3))
def test_the_default_model_and_its_sisters_run_as_they_should(number: int) -> None:
    assert state_of(lite(number)) == []


@pytest.mark.parametrize("spec", (*SPECS, DETECTOR))
def test_other_architectures_in_eval_mode_run_as_they_should(spec: str) -> None:
    assert state_of(*healthy(spec, 2)) == []


@pytest.mark.parametrize("kind", WAYS)
def test_small_trained_models_run_as_they_should(kind: str) -> None:
    net = trained(kind)
    assert state_of(net.model, net.pictures) == []


def test_a_model_that_is_in_training_mode_as_a_whole_is_one_finding() -> None:
    (finding,) = state_of(default_model().train())
    assert (finding.rule, finding.severity, finding.about, finding.value) == ("training-mode", "error", "model", 49)
    assert finding.sentence.startswith("The model is in training mode, and 49 of its modules run as in training")
    assert "model.eval()" in finding.advice


def test_a_detector_that_cannot_run_in_training_mode_is_told_from_its_flags() -> None:
    (finding,) = state_of(unsettled(DETECTOR).train(), torch.rand(2, 3, 160, 160))
    assert finding.about == "model" and finding.value > 20


def test_a_model_in_training_mode_in_which_nothing_cares_is_a_note() -> None:
    (finding,) = state_of(Net(nn.ReLU()).train(), PICTURES)
    assert finding.severity == "note" and finding.value == 0


@pytest.mark.parametrize("layer", ["bn1", "blocks.3.1.bn2", "blocks.6.0.bn3"])
def test_a_batch_norm_that_was_left_in_training_mode_is_named(layer: str) -> None:
    model = default_model()
    model.get_submodule(layer).train()
    (finding,) = state_of(model)
    assert (finding.severity, finding.layer) == ("error", layer) and "normalises by the batch" in finding.sentence
    assert finding.evidence is not None


def test_a_batch_norm_in_training_mode_is_seen_with_a_single_picture() -> None:
    model = Net(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8)).eval()
    model.inner[1].train()
    assert [finding.layer for finding in state_of(model, PICTURES[:1])] == ["inner.1"]


def test_many_modules_in_training_mode_are_one_finding() -> None:
    model = default_model()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    (finding,) = state_of(model)
    assert finding.layer == "bn1" and finding.value == 49


class Forced(nn.Module):
    """Puts its dropout into training mode whenever it runs, as networks that ask themselves for doubt do."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)

    def forward(self, values: Tensor) -> Tensor:
        self.dropout.train()
        return self.dropout(values)


class Kept(nn.Dropout):
    """Stays in training mode whatever it is told."""

    def train(self, mode: bool = True) -> Kept:
        return super().train(True)


class StochasticDepth(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        return values * (torch.rand(len(values), 1, 1, 1) > self.p) if self.training and self.p else values


class Gated(nn.Module):
    """Does something else in training, without any chance."""

    def forward(self, values: Tensor) -> Tensor:
        return values * 2 if self.training else values


def in_training(module: nn.Module) -> Callable[[], nn.Module]:
    """A network in eval mode, but for one module."""

    def make() -> nn.Module:
        net = Net(module).eval()
        module.train()
        return net

    return make


@pytest.mark.parametrize(
    "make, layer, severity",
    [
        (in_training(nn.Dropout(0.2)), "inner.0", "error"),
        (in_training(nn.Dropout2d(0.2)), "inner.0", "error"),
        (in_training(nn.FeatureAlphaDropout(0.2)), "inner.0", "error"),
        (in_training(nn.RReLU()), "inner.0", "error"),
        (in_training(nn.BatchNorm2d(8)), "inner.0", "error"),
        (in_training(StochasticDepth(0.4)), "inner.0", "error"),
        (in_training(Gated()), "inner.0", "warning"),
        (lambda: Net(Forced()).eval(), "inner.0.dropout", "error"),
        (lambda: Net(Kept()).eval(), "inner.0", "error"),
    ],
)
def test_whatever_runs_in_training_mode_is_named(make: Callable[[], nn.Module], layer: str, severity: str) -> None:
    found = state_of(make(), PICTURES)
    assert [(finding.layer, finding.severity) for finding in found] == [(layer, severity)]


@pytest.mark.parametrize(
    "module", [nn.Dropout(0.0), nn.ReLU(), nn.Identity(), nn.GroupNorm(2, 8), StochasticDepth(0.0)]
)
def test_what_does_the_same_in_training_mode_is_not_named(module: nn.Module) -> None:
    assert state_of(in_training(module)(), PICTURES) == []


class Calling(nn.Module):
    """Calls a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


@pytest.mark.parametrize(
    "function, severity, word",
    [
        (lambda x: functional.dropout(x, 0.2), "error", "dropout"),
        (lambda x: functional.dropout2d(x, 0.2), "error", "dropout2d"),
        (lambda x: functional.alpha_dropout(x, 0.2, training=True), "error", "alpha_dropout"),
        (lambda x: functional.rrelu(x, training=True), "error", "rrelu"),
        (lambda x: torch.dropout(x, 0.2, True), "error", "dropout"),
        (lambda x: x * torch.empty_like(x).bernoulli_(0.8), "error", "bernoulli"),
        (lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.2), "error", "attention"),
        (lambda x: functional.batch_norm(x, None, None, training=True), "error", "batch"),
        (lambda x: x + 0.1 * torch.randn_like(x), "warning", "randn_like"),
        (lambda x: x + float(np.random.rand()), "warning", "code of its own"),
        (lambda x: x + random.random(), "warning", "code of its own"),
    ],
)
def test_functions_that_run_as_in_training_are_named_by_the_module_that_calls_them(
    function: Callable[[Tensor], Tensor], severity: str, word: str
) -> None:
    (finding,) = state_of(Net(nn.ReLU(), Calling(function)).eval(), PICTURES)
    assert (finding.layer, finding.severity) == ("inner.1", severity) and word in finding.sentence


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.dropout(x, 0.2, training=False),
        lambda x: functional.dropout(x, 0.0),
        functional.rrelu,
        functional.instance_norm,
        lambda x: functional.batch_norm(x, x.new_zeros(8), x.new_ones(8)),
        lambda x: functional.scaled_dot_product_attention(x, x, x),
    ],
)
def test_functions_that_are_off_are_not_named(function: Callable[[Tensor], Tensor]) -> None:
    assert state_of(Net(Calling(function)).eval(), PICTURES) == []


def test_the_finding_says_how_far_two_runs_are_apart() -> None:
    drawn: list[Tensor] = []

    def step(values: Tensor) -> Tensor:
        drawn.append(torch.rand(1))
        return values + float(len(drawn))

    net = Net(Calling(step)).eval()
    (finding,) = state_of(net, PICTURES)
    assert len(drawn) == 2
    # the second run's values are 1 above the first one's, and the head is linear
    assert finding.value == pytest.approx(float(net.head.weight.detach().sum(1).abs().max()), rel=1e-4)
    assert f"up to {finding.value:.3g} apart" in finding.sentence


def test_what_the_loader_found_in_training_mode_is_named_although_it_has_turned_it_off() -> None:
    known = Known(training=("blocks.3.1.bn2", "blocks.3.1.conv_pw"))
    (finding,) = state_of(default_model(), known=known)
    assert finding.layer == "blocks.3.1.bn2" and "handed over in training mode" in finding.sentence


# --- unused modules


class Parts(nn.Module):
    """Uses weights in every way that is not a call, and leaves some out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 16, 3)
        self.as_function = nn.Linear(16, 16)
        self.tied = nn.Linear(16, 16)
        self.tied.weight, self.tied.bias = self.as_function.weight, self.as_function.bias
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2))
        self.normed = parametrizations.weight_norm(nn.Linear(16, 16))
        self.head = nn.Linear(16, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        values = self.conv(pictures).flatten(2).transpose(1, 2)
        values = functional.linear(values, self.as_function.weight, self.as_function.bias)
        values = self.attention(values, values, values)[0]
        for block in self.blocks:
            values = block(values)
        return self.head(functional.linear(values, self.normed.weight).mean(1))


def test_weights_that_are_used_without_a_call_are_no_finding() -> None:
    assert unused_of(Parts().eval(), PICTURES) == []


def learnt(module: nn.Module) -> nn.Module:
    """The same with weights that no initialisation draws."""
    with torch.no_grad():
        for weight in module.parameters():
            weight[: max(1, len(weight) // 4)] += 2.0
    return module


@pytest.mark.parametrize(
    "spare, expected",
    [
        (nn.Linear(32, 32), ("spare", "Linear")),
        (nn.Sequential(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3)), ("spare", "Sequential")),
        (nn.ModuleList([nn.Linear(32, 32), nn.Linear(32, 32)]), ("spare", "ModuleList")),
        (nn.ModuleDict({"one": nn.Sequential(nn.Linear(32, 32))}), ("spare", "ModuleDict")),
    ],
)
def test_a_trained_part_that_never_runs_is_named_as_a_whole(spare: nn.Module, expected: tuple[str, str]) -> None:
    model = Parts()
    model.register_module("spare", learnt(spare))
    (finding,) = unused_of(model.eval(), PICTURES)
    parameters = sum(each.numel() for each in spare.parameters())
    assert (finding.rule, finding.severity, finding.layer) == ("unused-modules", "warning", expected[0])
    assert finding.value == parameters and f"{parameters:,} parameters" in finding.sentence
    assert expected[1] in finding.sentence


def test_a_block_that_is_skipped_is_named_in_the_default_model() -> None:
    model = default_model()
    model.get_submodule("blocks.5.2").forward = lambda values: values  # type: ignore[method-assign, assignment]
    layers = {finding.layer for finding in unused_of(model)}
    assert layers and all(layer.startswith("blocks.5.2.") for layer in layers)


def test_a_part_of_a_list_that_never_runs_is_named_alone() -> None:
    model = Parts()
    model.blocks.append(learnt(nn.Linear(32, 32)))
    model.blocks.__class__.__iter__  # the model calls the first two  # noqa: B018
    model.forward = lambda pictures: model.head(model.blocks[1](model.blocks[0](torch.rand(4, 5, 16))).mean(1))  # type: ignore[method-assign]
    assert "blocks.2" in {finding.layer for finding in unused_of(model.eval(), PICTURES)}


def test_branches_for_training_and_parts_that_were_never_trained_are_notes() -> None:
    assert [(each.layer, each.severity) for each in unused_of(*healthy("torchvision:googlenet", 2))] == [
        ("aux1", "note"),
        ("aux2", "note"),
    ]
    model = default_model()
    model.register_module("spare", nn.Linear(64, 64))
    assert [each.severity for each in unused_of(model)] == ["note"]
    model.register_module("spare", learnt(nn.Linear(64, 64)))
    assert [each.severity for each in unused_of(model)] == ["warning"]
    assert [each.severity for each in unused_of(model, known=Known(unused=(("spare", "For captions."),)))] == ["note"]


class Routed(nn.Module):
    """Two experts, of which the picture's brightness chooses one."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([learnt(nn.Linear(3, 96)), learnt(nn.Linear(3, 96))])

    def forward(self, pictures: Tensor) -> Tensor:
        answers = [self.experts[int(each.mean() > 0.5)](each.mean((1, 2))) for each in pictures]
        return torch.stack(answers)


def test_an_expert_that_another_picture_calls_is_used() -> None:
    pictures = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    assert unused_of(Routed(), pictures) == []
    assert [each.layer for each in unused_of(Routed(), pictures[:1])] == ["experts.1"]


@pytest.mark.parametrize("number", range(3))
def test_all_of_the_default_model_and_its_sisters_runs(number: int) -> None:
    assert unused_of(lite(number)) == []


@pytest.mark.parametrize("spec", ("torchvision:resnet18", "timm:xcit_nano_12_p16_224", "torchvision:swin_t", DETECTOR))
def test_all_of_other_architectures_runs(spec: str) -> None:
    assert unused_of(*healthy(spec, 2)) == []
