"""Values that are not finite: who made them, in 50 of 50 cases; activations at their ends; the ends of float16."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from doctor_models import default_model, normalise, photographs, random_model, trained
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.doctor.check import check
from hookscope.hooks.doctor.patient import read_patient
from hookscope.hooks.doctor.values import non_finite, precision, saturated
from hookscope.hooks.results.findings import Finding, Trail

Fault = Callable[[nn.Module], None]
NAN, INF = float("nan"), float("inf")


def found(model: nn.Module, pictures: Tensor) -> list[Finding]:
    """What the rule non-finite finds."""
    return list(non_finite(read_patient(model, pictures)))


def at(model: nn.Module, name: str) -> Any:
    """One of its layers."""
    return model.get_submodule(name)


def of_digits(kind: str, count: int = 8) -> tuple[nn.Module, Tensor]:
    """A trained network, and pictures for it."""
    known = trained(kind)
    return known.model, known.pictures[:count]


class Step(nn.Module):
    """A layer and what its own code does to what that gives."""

    def __init__(self, layer: nn.Module, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.step = layer, step

    def forward(self, values: Tensor) -> Tensor:
        return self.step(self.layer(values))


def in_place_log(values: Tensor) -> Tensor:
    values = -1 - values.abs()
    return values.log_()


def all_masked(values: Tensor) -> Tensor:
    mask = torch.ones_like(values, dtype=torch.bool)
    return values.masked_fill(mask, -INF).softmax(1)


# what is done, and the operation that makes the values
STEPS: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda values: torch.log(-1 - values.abs()), "log"),
    (lambda values: (-1 - values.abs()).sqrt(), "sqrt"),
    (lambda values: values / (values - values), "div"),
    (lambda values: (values.abs() + 1000).exp(), "exp"),
    (lambda values: (values.abs() + 200).exp().clamp_max(1e30) ** 3, "pow"),  # clamp removes exp's
    (in_place_log, "log"),
    (all_masked, "softmax"),
    (lambda values: torch.asin(values.abs() + 2), "asin"),
    (lambda values: (values.abs() + 1) * 1e30 * 1e30, "mul@2"),
    (lambda values: torch.zeros_like(values).add_(2e38).add_(2e38), "add@2"),
    (lambda values: functional.normalize(values.half() * 300, dim=1, eps=0).float() * values, "mul"),
    (lambda values: torch.pow(-1 - values.abs(), 0.5), "pow"),
]


def named_children(model: nn.Module) -> list[str]:
    """The convolutions and linear layers that stand in a container by themselves, which can be replaced."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "self_attn" not in name and "linear" not in name
    ]


def replace(model: nn.Module, name: str, make: Callable[[nn.Module], nn.Module]) -> None:
    owner, _, own = name.rpartition(".")
    container = model.get_submodule(owner)
    setattr(container, own, make(model.get_submodule(name)))


@functools.cache
def kept(name: str) -> tuple[nn.Module, Tensor]:
    if name == "default":
        return default_model(), normalise(photographs(2), (0.5,), (0.5,))
    if ":" in name:
        return random_model(name, 2, 64)
    return of_digits(name, 4)


SOURCES = [
    "bn", "plain", "vit", "tanh", "torchvision:resnet18", "torchvision:mobilenet_v3_small", "timm:convnext_atto",
    "torchvision:vgg11", "torchvision:densenet121", "default",
]  # fmt: skip


def plant(seed: int) -> tuple[nn.Module, Tensor, str]:
    """A model with one fault, pictures, and the name of the call that makes values that are not finite."""
    drawn = random.Random(seed)
    source = SOURCES[seed % len(SOURCES)]
    model, pictures = kept(source)
    model = copy.deepcopy(model)
    kind = ("step", "weight", "bias", "variance", "step")[seed // len(SOURCES) % 5]
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    own = [name for name in norms if type(model.get_submodule(name)) is nn.BatchNorm2d]
    if kind == "variance" and own:
        name = drawn.choice(own)
        with torch.no_grad():
            at(model, name).running_var[0] = -1.0
        return model, pictures, name
    name = drawn.choice(named_children(model))
    module = at(model, name)
    if kind == "weight" or (kind == "bias" and module.bias is None):
        with torch.no_grad():
            module.weight.view(-1)[drawn.randrange(module.weight.numel())] = NAN
        return model, pictures, name
    if kind == "bias":
        with torch.no_grad():
            module.bias[0] = drawn.choice([NAN, INF])
        return model, pictures, name
    for shift in range(len(STEPS)):  # some networks swallow an infinite value, tanh for one
        step, operation = STEPS[(seed + seed // len(SOURCES) + shift) % len(STEPS)]
        planted = copy.deepcopy(model)
        replace(planted, name, functools.partial(Step, step=step))
        with torch.no_grad():
            if not planted(pictures).isfinite().all():
                return planted, pictures, f"{name}/{operation}"
    raise AssertionError("no step spoils this network")


@pytest.mark.parametrize("seed", [pytest.param(each, marks=pytest.mark.slow if each % 3 else ()) for each in range(50)])
def test_the_producer_is_named_and_nobody_else(seed: int) -> None:
    model, pictures, name = plant(seed)
    findings = found(model, pictures)
    assert [(each.layer, each.severity) for each in findings] == [(name, "error")], findings


# --- who else is no producer


class Net(nn.Module):
    """A convolution, a function of one's own, and a linear layer."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)
        self.middle = middle

    def forward(self, pictures: Tensor) -> Tensor:
        return self.fc(self.middle(self.conv(pictures)).mean((2, 3)))


def pictures_of(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def masked(values: Tensor) -> Tensor:
    return values.masked_fill(values > values.mean(), -INF).softmax(1)


def masked_by_log(values: Tensor) -> Tensor:
    keep = (values > values.mean()).float()
    keep[:, 0] = 1
    return (values + keep.log()).softmax(1)


def filled(values: Tensor) -> Tensor:
    added = torch.full_like(values, -INF).triu(1)
    return (values + torch.where(added.isnan(), 0.0, added)).softmax(-1)


@pytest.mark.parametrize("middle", [masked, masked_by_log, filled, lambda values: 1 / (1 + (values * 1e4).exp())])
def test_infinite_values_that_a_softmax_or_a_division_takes_are_none(middle: Callable[[Tensor], Tensor]) -> None:
    model = Net(middle)
    assert model(pictures_of()).isfinite().all()
    assert found(model, pictures_of()) == []


def test_nan_that_is_removed_is_a_note() -> None:
    (only,) = found(Net(lambda values: torch.log(-1 - values.abs()).nan_to_num(0.0)), pictures_of())
    assert (only.severity, only.layer) == ("note", "/log")


def test_two_producers_beside_each_other_are_both_named() -> None:
    model = Net(lambda values: torch.log(-1 - values.abs()) + (-2 - values.abs()).sqrt())
    assert [each.layer for each in found(model, pictures_of())] == ["/log", "/sqrt"]


def test_the_second_call_of_an_operation_is_the_one_that_is_named() -> None:
    model = Net(lambda values: torch.log(torch.log(values.abs() / 1e3 + 1e-3)))
    assert [each.layer for each in found(model, pictures_of())] == ["/log@2"]


def test_an_lstm_with_a_weight_that_is_nan() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.fc = nn.LSTM(36, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, pictures: Tensor) -> Tensor:
            return self.fc(self.lstm(pictures.flatten(2).unflatten(2, (4, 36)).mean(1))[0][:, -1])

    model = Reader()
    with torch.no_grad():
        model.lstm.weight_hh_l0[0, 0] = NAN
    (only,) = found(model, pictures_of())
    assert only.layer == "lstm" and "weight_hh_l0 holds 1 NaN" in only.sentence


def test_numbers_pictures_and_trail_are_those_of_the_values() -> None:
    model, pictures = of_digits("bn", 12)
    pictures[5, :, 3:9, 3:9] = 3e38  # one picture whose values overflow
    (only,) = found(model, pictures)
    assert only.severity == "error" and only.picture == 5 and "in 1 of 12 pictures" in only.sentence
    assert isinstance(only.evidence, Trail)
    (marked,) = only.evidence.marked
    assert only.evidence.lines[marked][0] == only.layer
    assert "of 8 of the 12 pictures" in only.evidence.title


def test_the_numbers_of_a_trail_are_those_of_the_pictures_that_it_names() -> None:
    model, pictures = of_digits("bn", 12)
    at(model, "layer1.bn1").running_var[2] = NAN
    (only,) = found(model, pictures)
    with torch.no_grad():
        held = Tensor([])
        hook = at(model, "layer1.bn1").register_forward_hook(lambda module, given, output: held.set_(output))
        model(pictures)
        hook.remove()
    assert isinstance(only.evidence, Trail) and "of 8 of the 12 pictures" in only.evidence.title
    assert f"makes {int(held.isnan().sum()):,} NaN" in only.sentence
    assert only.evidence.lines[only.evidence.marked[0]][1] == f"{int(held[:8].isnan().sum()):,} NaN, 0 infinite"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda norm: norm.running_var[2].fill_(-0.5),
            "its running_var is below 0 in 1 of 32 channels (2), down to -0.5",
        ),
        (lambda norm: (setattr(norm, "eps", 0.0), norm.running_var[3].zero_()), "its running_var is 0 in 1 of 32 chan"),
    ],
)
def test_a_norm_that_divides_by_no_number_is_told_by_what_it_holds(change: Callable[[Any], Any], said: str) -> None:
    model, pictures = of_digits("bn")
    change(at(model, "layer1.bn1"))
    (only,) = found(model, pictures)
    assert only.layer == "layer1.bn1" and said in only.sentence and "running_var" in only.advice


def test_weights_that_a_training_threw_far_off_are_one_finding_and_the_rest_follows() -> None:
    model, pictures = of_digits("bn", 16)
    with torch.no_grad():
        at(model, "layer1.conv1").weight *= 1e12
        at(model, "layer1.bn1").weight[2] *= 1e12
    up = check(model, pictures)
    loud = [each for each in up.findings if each.severity != "note"]
    assert [(each.rule, each.layer) for each in loud] == [("precision", "layer1.conv1")]
    largest = float(at(model, "layer1.conv1").weight.detach().abs().max())
    assert f"up to {largest:.3g} in size" in loud[0].sentence
    assert any("consequence of precision at layer1.conv1" in each.sentence for each in up.findings)


def test_pictures_that_hold_nan_are_the_fault_and_not_the_model() -> None:
    model, pictures = of_digits("plain")
    pictures[2, 0, :2, :3] = NAN
    (only,) = found(model, pictures)
    assert (only.about, only.layer, only.picture, only.value) == ("input", "", 2, 6.0)


def test_a_weight_that_nothing_uses_is_a_note() -> None:
    model = Net(lambda values: values)
    model.spare = nn.Linear(3, 3)
    with torch.no_grad():
        model.spare.weight[0, 0] = NAN
    (only,) = found(model, pictures_of())
    assert (only.severity, only.layer) == ("note", "spare")


def test_a_module_in_float16_that_overflows() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(432, 16).half(), nn.Linear(16, 4).half()

        def forward(self, pictures: Tensor) -> Tensor:
            return self.second(self.first(pictures.flatten(1).half())).float()

    model = Half()
    with torch.no_grad():
        model.first.weight.fill_(1000.0)
    assert [each.layer for each in found(model, pictures_of())] == ["first"]


@pytest.mark.parametrize("kind", ["bn", "plain", "vit", "tanh"])
def test_healthy_networks_have_none_of_it(kind: str) -> None:
    patient = read_patient(*of_digits(kind, 16))
    assert [*non_finite(patient), *saturated(patient), *precision(patient)] == []


# --- at their ends


def test_tanh_and_sigmoid_that_are_given_too_much() -> None:
    model, pictures = of_digits("tanh", 16)
    with torch.no_grad():
        at(model, "2").weight *= 100
        at(model, "5").bias += 40
    findings = list(saturated(read_patient(model, pictures)))
    assert [(each.layer, each.severity) for each in findings] == [("3", "warning"), ("6", "warning")]
    with torch.no_grad():  # by hand
        given = model[:3](pictures)  # type: ignore[index]
        share = float((given.abs() > 9.5).float().mean())
    assert findings[0].value == pytest.approx(share, abs=0.05) and share > 0.5
    assert findings[1].value == pytest.approx(1.0, abs=0.01)  # drawn values; by hand all


def test_gates_that_are_always_open_and_relu6_that_is_always_full() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.gate, self.fc = nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, pictures: Tensor) -> Tensor:
            maps = self.act(self.conv(pictures))
            return self.fc((maps * torch.sigmoid(self.gate(maps.mean((2, 3))))[..., None, None]).mean((2, 3)))

    model = Gated()
    assert list(saturated(read_patient(model, pictures_of(8)))) == []
    with torch.no_grad():
        model.gate.bias += 50
        model.conv.bias += 100
    layers = [each.layer for each in saturated(read_patient(model, pictures_of(8)))]
    assert layers == ["act", "/sigmoid"]


# --- the ends of float16


def large(weight: float) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        at(model, "0").weight.fill_(weight)
        at(model, "2").weight.mul_(1e-3)
    return model


def test_float16_near_overflow_is_a_warning_and_float32_a_note() -> None:
    pictures = pictures_of(8)
    with torch.no_grad():
        largest = float(large(2000.0)[0](pictures).max())  # type: ignore[index]
    assert 65504 / 4 < largest < 65504
    (note,) = precision(read_patient(large(2000.0), pictures))
    assert (note.severity, note.layer) == ("note", "0") and note.value == pytest.approx(largest, rel=0.01)
    (warning,) = precision(read_patient(large(2000.0).half(), pictures.half()))
    assert (warning.severity, warning.layer) == ("warning", "0") and warning.value == pytest.approx(largest, rel=0.01)
    assert list(precision(read_patient(large(1.0).half(), pictures.half()))) == []


def test_float16_with_values_that_lose_their_digits() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        at(model, "0").weight.fill_(1e-6)
        at(model, "0").bias.fill_(0)
    findings = list(precision(read_patient(model.half(), pictures_of(8).half())))
    assert findings and findings[0].layer == "0" and findings[0].severity == "warning" and findings[0].value > 0.9


def test_bfloat16_has_the_range_of_float32() -> None:
    assert list(precision(read_patient(large(2000.0).bfloat16(), pictures_of(8).bfloat16()))) == []


def test_as_a_check_all_three_say_what_they_looked_at() -> None:
    model, pictures = of_digits("tanh", 8)
    known = check(model, pictures)
    said = {each.rule: each for each in known.checked}
    assert said["saturated"].why == "3 bounded activations over 8 pictures." and said["saturated"].status == "ok"
    assert said["precision"].why.endswith("in float32.")
    assert said["non-finite"].status == "ok"
