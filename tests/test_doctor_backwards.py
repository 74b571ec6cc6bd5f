"""Gradients that vanish, stop, explode or are no number: planted where it is known which layer does it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from doctor_models import default_model, healthy, normalise, photographs, trained
from torch import Tensor, nn

from hookscope.hooks.doctor.backwards import exploding, measured, vanishing
from hookscope.hooks.doctor.check import check
from hookscope.hooks.doctor.consequences import mark_consequences
from hookscope.hooks.doctor.patient import CannotTell, read_patient
from hookscope.hooks.results.findings import CheckUp, Curve, Finding
from hookscope.hooks.training.alarms import Alarms, Evidence


def examined(model: nn.Module, pictures: Tensor) -> list[Finding]:
    """What both rules find."""
    patient = read_patient(model, pictures)
    return [*vanishing(patient), *exploding(patient)]


def at(model: nn.Module, name: str) -> Any:
    """One of its layers."""
    return model.get_submodule(name)


def deep(make: type[nn.Module], layers: int = 20, gain: float = 1.0) -> nn.Module:
    """Linear layers with an activation between each two."""
    torch.manual_seed(0)
    parts: list[nn.Module] = [nn.Flatten(), nn.Linear(192, 32)]
    for _ in range(layers):
        parts += [make(), nn.Linear(32, 32)]
    model = nn.Sequential(*parts)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(gain)
    return model


def some(count: int = 4) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Between(nn.Module):
    """A layer, and what is done to what it gives."""

    def __init__(self, layer: nn.Module, how: str) -> None:
        super().__init__()
        self.layer, self.how = layer, how

    def forward(self, values: Tensor) -> Tensor:
        values = self.layer(values)
        if self.how == "detach":
            return values.detach()
        if self.how == "root":
            return (values - values + 0.0).abs().sqrt() + values
        return values * 1e6


@pytest.mark.parametrize("kind", ["bn", "plain", "vit", "tanh"])
def test_trained_networks_have_neither(kind: str) -> None:
    known = trained(kind)
    assert examined(known.model, known.pictures[:8]) == []


@pytest.mark.parametrize(
    "spec", ["torchvision:resnet18", "torchvision:alexnet", "timm:convnext_atto", "timm:mobilevit_xxs"]
)
def test_random_models_have_neither(spec: str) -> None:
    assert examined(*healthy(spec, 2)) == []


def test_the_default_model_has_neither() -> None:
    assert examined(default_model(), normalise(photographs(4), (0.5,), (0.5,))) == []


def test_norms_are_those_of_plain_autograd() -> None:
    known = trained("plain")
    patient = read_patient(known.model, known.pictures[:3])
    found = {each.layer: each.norm for each in measured(patient, ["0", "4", "7"])}
    kept: dict[str, Tensor] = {}
    handles = [
        at(known.model, name).register_forward_hook(lambda module, args, output, name=name: kept.update({name: output}))
        for name in ("0", "4", "7")
    ]
    score = copy.copy(known.model)(known.pictures[:3]).amax(1).sum()
    for handle in handles:
        handle.remove()
    by_hand = torch.autograd.grad(score, [kept["0"], kept["7"]])
    assert found["0"] == pytest.approx(float(by_hand[0].norm()) / 3**0.5, rel=1e-5)
    assert found["7"] == pytest.approx(float(by_hand[1].norm()) / 3**0.5, rel=1e-5)


# --- vanishing


def test_twenty_sigmoids_in_a_row() -> None:
    (found,) = examined(deep(nn.Sigmoid), some())
    assert (found.rule, found.severity) == ("vanishing-gradients", "warning") and found.value < found.limit
    assert isinstance(found.evidence, Curve) and found.evidence.logarithmic
    assert len(found.evidence.values) == 21 and 0 in found.evidence.marked and 20 not in found.evidence.marked


def test_a_loss_that_every_layer_shares_is_told_by_its_factor_and_has_no_place() -> None:
    (found,) = examined(deep(nn.Sigmoid), some())
    assert isinstance(found.evidence, Curve) and "it is lost at" not in found.sentence
    norms = found.evidence.values
    factor = float(np.median(norms[1:] / norms[:-1]))
    assert (norms[:-1] < norms[1:]).all()
    assert f"about a factor of {factor:.2g} (median of 20 steps)" in found.sentence
    below = [each for each in norms if each < 1e-4 * norms[-1]]
    assert f"At {len(found.evidence.marked):,} of 21 layers with weights it is below 0.0001" in found.sentence
    assert len(found.evidence.marked) >= len(below) > 5


def partly_trained(make: type[nn.Module], trained_ones: list[int]) -> CheckUp:
    """What a check-up says of the layers that are as they were made."""
    model = deep(make, 12)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for place in trained_ones:
            weight = linear[place].weight
            weight += 3 * weight.std() * torch.outer(torch.linspace(-1, 1, len(weight)), torch.ones(weight.shape[1]))
    return check(model.eval(), torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


def test_layers_that_get_no_gradient_were_not_forgotten_when_weights_were_loaded() -> None:
    last = [8, 9, 10, 11, 12]
    up = partly_trained(nn.Sigmoid, last)
    partly = up.of("partly-initialised")
    assert partly and {each.severity for each in partly} == {"note"}
    assert all("consequence of vanishing-gradients" in each.sentence for each in partly)
    assert all("not loaded" in each.why for each in partly)
    assert up.worst is not None and up.worst.rule == "vanishing-gradients"


def test_what_was_put_down_to_untrained_layers_is_put_down_to_what_left_them_so() -> None:
    patient = read_patient(deep(nn.Sigmoid, 12), some(8))
    partly = Finding("partly-initialised", "error", "1 is as it was made.", layer="1", advice="Load it.")
    shift = Finding("saturated", "warning", "So it is.", layer="6", advice="Look.")
    _, early = mark_consequences(patient, [partly, shift])
    assert early.severity == "note" and "consequence of partly-initialised at 1" in early.sentence
    (gradient,) = vanishing(patient)
    first, then, _ = mark_consequences(patient, [partly, early, gradient])
    assert first.severity == "note" and "consequence of vanishing-gradients" in first.sentence
    assert (
        "consequence of vanishing-gradients" in then.sentence and "partly" not in then.sentence + then.advice + then.why
    )


@pytest.mark.parametrize(("make", "first"), [(nn.Sigmoid, [0]), (nn.Identity, [])])
def test_layers_behind_trained_ones_or_with_a_gradient_were_forgotten(make: type[nn.Module], first: list[int]) -> None:
    up = partly_trained(make, [*first, 8, 9, 10, 11, 12])
    partly = up.of("partly-initialised")
    assert partly and {each.severity for each in partly} == {"error"}
    assert not any("vanishing" in each.sentence for each in partly)
    assert bool(up.of("vanishing-gradients")) == (make is nn.Sigmoid)


def test_a_gradient_of_0_is_said_beside_the_one_it_came_of() -> None:
    known = trained("plain")
    with torch.no_grad():
        at(known.model, "2").bias -= 1000
    (found,) = examined(known.model, known.pictures[:8])
    assert isinstance(found.evidence, Curve) and found.evidence.values[0] == 0 and "it is lost at 3." in found.sentence
    last = found.evidence.names[-1], found.evidence.values[-1]
    assert f"is exactly 0 at 0, and {last[1]:.2g} at {last[0]} (limit 0.0001 of that)" in found.sentence


def test_a_training_says_the_same_of_a_gradient_of_0() -> None:
    gradients = {"stem": (0.0, 0.0, 1.0, 0), "head": (0.93, 0.1, 0.0, 0)}
    (alarm,), _ = Alarms().examine(Evidence(3, matrices=("stem", "head"), gradients=gradients))
    assert alarm.sentence.startswith("The norm of the gradient is exactly 0 at stem, and 0.93 at head (limit 0.0001 of")


def test_a_dead_relu_that_lets_nothing_through() -> None:
    known = trained("plain")
    with torch.no_grad():
        at(known.model, "2").bias -= 1000
    (found,) = examined(known.model, known.pictures[:8])
    assert (found.rule, found.layer) == ("vanishing-gradients", "3") and found.value == 0.0


def test_a_layer_whose_weights_are_all_but_zero() -> None:
    known = trained("bn")
    with torch.no_grad():
        at(known.model, "layer2.bn2").weight *= 1e-9
        at(known.model, "layer2.short.1").weight *= 1e-9
    (found,) = examined(known.model, known.pictures[:8])
    assert found.rule == "vanishing-gradients" and found.layer in ("layer2.bn2", "layer2.short.1")


def test_saturated_tanh_takes_the_gradient() -> None:
    known = trained("tanh")
    with torch.no_grad():
        at(known.model, "2").bias += 100
    (found,) = examined(known.model, known.pictures[:8])
    assert (found.rule, found.layer) == ("vanishing-gradients", "3")


@pytest.mark.parametrize(("kind", "name"), [("plain", "2"), ("bn", "layer1"), ("vit", "blocks.0")])
def test_a_detach_in_forward_is_named(kind: str, name: str) -> None:
    known = trained(kind)
    owner, _, own = name.rpartition(".")
    setattr(at(known.model, owner), own, Between(at(known.model, name), "detach"))
    (found,) = examined(known.model, known.pictures[:8])
    assert found.rule == "vanishing-gradients" and "stops behind" in found.sentence
    assert found.layer.startswith(f"{name}.layer")


def test_a_head_of_zeros_is_not_told_as_a_fault() -> None:
    known = trained("bn")
    with torch.no_grad():
        at(known.model, "fc").weight.zero_()
    with pytest.raises(CannotTell, match="All weights of fc are 0"):
        list(vanishing(read_patient(known.model, known.pictures[:8])))


def test_a_branch_that_is_shut_is_not_told_as_a_fault() -> None:
    known = trained("bn")
    with torch.no_grad():
        at(known.model, "layer1.bn2").weight.zero_()
    assert examined(known.model, known.pictures[:8]) == []


# --- exploding


def test_weights_ten_times_too_large_explode() -> None:
    assert examined(deep(nn.ReLU, 4, 2.5), some()) == []
    (found,) = examined(deep(nn.ReLU, 12, 10.0), some())
    assert (found.rule, found.severity) == ("exploding-gradients", "warning") and found.value > 1e3


@pytest.mark.parametrize(("kind", "name"), [("plain", "4"), ("bn", "layer2.conv1"), ("tanh", "2")])
def test_one_layer_with_far_too_large_weights_is_named(kind: str, name: str) -> None:
    known = trained(kind)
    owner, _, own = name.rpartition(".")
    setattr(at(known.model, owner), own, Between(at(known.model, name), "scale"))
    found = examined(known.model, known.pictures[:8])
    if kind == "tanh":  # the tanh behind it is saturated, and takes the gradient
        assert [each.rule for each in found] == ["vanishing-gradients"]
        return
    assert [each.rule for each in found] == ["exploding-gradients"] and found[0].layer == f"{name}/mul"


def test_a_root_of_zero_has_no_gradient() -> None:
    known = trained("plain")
    setattr(known.model, "4", Between(at(known.model, "4"), "root"))
    (found,) = examined(known.model, known.pictures[:8])
    assert (found.rule, found.layer) == ("exploding-gradients", "4.layer") and "not finite" in found.sentence


def test_a_model_without_a_class_cannot_be_told() -> None:
    with pytest.raises(CannotTell):
        list(vanishing(read_patient(nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 3)), some())))
