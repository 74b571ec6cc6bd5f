"""Channels that are dead, rare, constant, alike or far too large; borders; each planted in trained networks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from doctor_models import LITE, Trained, default_model, normalise, photographs, trained
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.doctor import channels
from hookscope.hooks.doctor.alike import alike_rows, alike_values, group_pairs
from hookscope.hooks.doctor.check import check
from hookscope.hooks.doctor.patient import Patient, read_patient
from hookscope.hooks.results.findings import Bars, CheckUp, Finding
from hookscope.hooks.rules import RULES

OURS = (
    "dead-channels", "rare-channels", "constant-channels", "duplicate-channels", "asymmetric-scale",
    "padding-artefact",
)  # fmt: skip
Examine = Callable[[Patient], Iterator[Finding]]


def examined(model: nn.Module, pictures: Tensor, *rules: str) -> list[Finding]:
    """What rules of ours find; all of them if none is named."""
    patient = read_patient(model, pictures)
    return [finding for rule in rules or OURS for finding in RULES[rule].examine(patient)]


def warned(model: nn.Module, pictures: Tensor, *rules: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """The warnings: rule, layer and channels."""
    return [
        (each.rule, each.layer, each.channels) for each in examined(model, pictures, *rules) if each.severity != "note"
    ]


def at(model: nn.Module, name: str) -> Any:
    """One of its layers."""
    return model.get_submodule(name)


@functools.cache
def lite_pictures(count: int = 8) -> Tensor:
    return normalise(photographs(count, 224), *LITE)


@pytest.fixture
def bn() -> Trained:
    return trained("bn")


@pytest.fixture
def plain() -> Trained:
    return trained("plain")


@pytest.fixture
def vit() -> Trained:
    return trained("vit")


# --- nothing wrong


@pytest.mark.parametrize("kind", ["bn", "plain", "vit", "tanh"])
def test_a_healthy_network_gets_no_warning(kind: str) -> None:
    known = trained(kind)
    assert warned(known.model, known.pictures[:32]) == []


def test_the_default_model_gets_notes_only() -> None:
    findings = examined(default_model(), lite_pictures(23))
    assert {each.severity for each in findings} <= {"note"}


# --- dead


def kill(norm: nn.Module, channels: list[int], bias: float) -> None:
    """Lower the bias of some channels."""
    with torch.no_grad():
        norm.bias[channels] -= bias


def test_channels_with_a_bias_out_of_reach_are_dead(bn: Trained) -> None:
    kill(at(bn.model, "layer1.bn1"), [1, 5, 30], 100.0)
    assert ("dead-channels", "layer1.relu1", (1, 5, 30)) in warned(bn.model, bn.pictures[:32])


def test_many_channels_a_little_out_of_reach_are_dead(bn: Trained) -> None:
    channels = list(range(10, 20))
    kill(at(bn.model, "layer2.bn1"), channels, 12.0)
    (found,) = warned(bn.model, bn.pictures[:32], "dead-channels")
    assert found[:2] == ("dead-channels", "layer2.relu1") and set(found[2]) == set(channels)


def test_a_convolution_without_norm_with_a_large_bias_is_dead(plain: Trained) -> None:
    kill(at(plain.model, "2"), [0, 7], 60.0)
    assert warned(plain.model, plain.pictures[:32], "dead-channels") == [("dead-channels", "3", (0, 7))]


def test_a_norm_at_zero_makes_dead_channels(bn: Trained) -> None:
    with torch.no_grad():
        at(bn.model, "bn1").weight[[2, 9]] = 0
        at(bn.model, "bn1").bias[[2, 9]] = 0
    (found,) = [each for each in examined(bn.model, bn.pictures[:32], "dead-channels") if each.severity == "warning"]
    assert (found.layer, found.channels, found.value, found.limit) == ("relu", (2, 9), 2.0, 0.0)


def test_gelu_channels_die_too(vit: Trained) -> None:
    kill(at(vit.model, "blocks.1.linear1"), [3, 4, 90], 40.0)
    (found,) = warned(vit.model, vit.pictures[:32], "dead-channels")
    assert found[2] == (3, 4, 90) and "blocks.1" in found[1]


def test_a_dead_layer_is_named_once_and_those_behind_it_not(plain: Trained) -> None:
    kill(at(plain.model, "2"), list(range(32)), 500.0)
    assert [each[:2] for each in warned(plain.model, plain.pictures[:32], "dead-channels")] == [("dead-channels", "3")]


def test_dead_channels_of_the_default_model_are_named_where_they_die() -> None:
    model = default_model()
    kill(at(model, "blocks.2.1.bn1"), [10, 20], 60.0)
    found = warned(model, lite_pictures(), "dead-channels")
    assert len(found) == 1 and found[0][1] == "blocks.2.1.bn1.act" and {10, 20} <= set(found[0][2])


def test_channels_that_are_merely_silent_are_a_note() -> None:
    plain = trained("plain")
    notes = [each for each in examined(plain.model, plain.pictures[:32], "dead-channels") if each.severity == "note"]
    assert len(notes) <= 1
    with torch.no_grad():  # by hand: which channels of the last ReLU are never above 0
        alive = plain.model[:9](plain.pictures[:32]).amax(0) > 0
    assert notes and notes[0].layer == "8" and notes[0].channels == tuple(torch.nonzero(~alive)[:, 0].tolist())


def test_one_silent_channel_after_one_activation_is_said_so() -> None:
    def silent(layer: str, count: int, among: int) -> channels._Silent:
        nothing = np.zeros(0, int)
        summary: Any = None
        return channels._Silent((layer, 0), np.arange(count), among, np.zeros(among), nothing, "", summary)

    alone = channels._merely_silent([silent("2", 1, 8)], 18).sentence
    assert alone == "1 of 8 channels after 2 fired in none of 18 pictures; trained networks have such ones."
    several = channels._merely_silent([silent("2", 1, 4), silent("5", 3, 96)], 18).sentence
    assert several == (
        "4 channels after 2 activations fired in none of 18 pictures, the largest share of them after 2 (1 of 4 "
        "channels); trained networks have such ones."
    )


# --- rare


def test_channels_that_fire_in_one_picture_are_rare(plain: Trained) -> None:
    pictures = plain.pictures[:32]
    with torch.no_grad():
        first = at(plain.model, "0")(pictures).amax((2, 3))
        highest = first.topk(2, 0).values
        at(plain.model, "0").bias[:10] -= highest.mean(0)[:10]
    (found,) = examined(plain.model, pictures, "rare-channels")
    assert (found.layer, found.severity, found.channels) == ("1", "note", tuple(range(10)))


# --- constant


def test_a_norm_without_scale_makes_constant_channels(bn: Trained) -> None:
    with torch.no_grad():
        at(bn.model, "layer1.bn2").weight[[4, 8]] = 0
    assert warned(bn.model, bn.pictures[:32], "constant-channels") == [("constant-channels", "layer1.bn2", (4, 8))]


def test_filters_of_nothing_but_zeros_make_constant_channels(plain: Trained) -> None:
    with torch.no_grad():
        at(plain.model, "2").weight[[6, 11]] = 0
        at(plain.model, "2").bias[[6, 11]] = 1
    assert warned(plain.model, plain.pictures[:32], "constant-channels") == [("constant-channels", "2", (6, 11))]


def test_a_share_of_channels_above_0_everywhere_is_constant(bn: Trained) -> None:
    with torch.no_grad():
        at(bn.model, "layer2.bn1").running_var[:6] = 1e18
        at(bn.model, "layer2.bn1").bias[:6] = 0.5
    found = warned(bn.model, bn.pictures[:32], "constant-channels")
    assert found == [("constant-channels", "layer2.bn1", (0, 1, 2, 3, 4, 5))]


def test_a_linear_layers_zero_rows_are_constant(vit: Trained) -> None:
    with torch.no_grad():
        at(vit.model, "blocks.0.linear2").weight[[1, 2]] = 0
    assert ("constant-channels", "blocks.0.linear2", (1, 2)) in warned(vit.model, vit.pictures[:32])


# --- alike


def test_copied_filters_are_duplicates(bn: Trained) -> None:
    with torch.no_grad():
        at(bn.model, "layer1.conv1").weight[7] = at(bn.model, "layer1.conv1").weight[3]
    assert warned(bn.model, bn.pictures[:32]) == [("duplicate-channels", "layer1.conv1", (3, 7))]


def test_turned_and_scaled_filters_are_duplicates(plain: Trained) -> None:
    with torch.no_grad():
        at(plain.model, "4").weight[[0, 1]] = (
            at(plain.model, "4").weight[[9]] * torch.tensor([-2.0, 0.5])[:, None, None, None]
        )
    assert warned(plain.model, plain.pictures[:32], "duplicate-channels") == [("duplicate-channels", "4", (0, 1, 9))]


def test_copied_rows_of_a_linear_layer_are_duplicates(plain: Trained, vit: Trained) -> None:
    with torch.no_grad():
        at(plain.model, "7").weight[40] = at(plain.model, "7").weight[20]
        at(vit.model, "blocks.0.linear1").weight[5] = -at(vit.model, "blocks.0.linear1").weight[6]
    assert warned(plain.model, plain.pictures[:32], "duplicate-channels") == [("duplicate-channels", "7", (20, 40))]
    found = warned(vit.model, vit.pictures[:32], "duplicate-channels")
    assert found == [("duplicate-channels", "blocks.0.linear1", (5, 6))]


def test_filters_that_differ_in_their_colours_alone_are_alike_in_grey_pictures_and_no_copies() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    weight = at(model, "0").weight
    with torch.no_grad():
        weight[1] = weight[0].flip(0)  # the same over red, green and blue together
    coloured = photographs(8, 48)
    grey = coloured.mean(1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    model(grey)
    (found,) = examined(model, grey, "duplicate-channels")
    assert (found.severity, found.channels) == ("note", (0, 1)) and "no colour" in found.sentence
    assert examined(model, coloured, "duplicate-channels") == []
    with torch.no_grad():
        weight[5] = 2 * weight[7]
    assert warned(model, grey, "duplicate-channels") == [("duplicate-channels", "0", (5, 7))]


def test_duplicates_in_the_default_model() -> None:
    model = default_model()
    with torch.no_grad():
        filters = at(model, "blocks.4.1.conv_pw").weight
        filters[[100, 200]] = filters[[101, 201]]
    assert warned(model, lite_pictures(), "duplicate-channels") == [
        ("duplicate-channels", "blocks.4.1.conv_pw", (100, 101, 200, 201))
    ]


def test_alike_values_agree_with_all_pairs_by_hand() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(300, 200)).astype(np.float32)
    values[17] = 5 - 3 * values[250]
    values[60] = values[61] + 0.05 * draw.normal(size=200)  # |r| of about 0.9988
    values[9] = 4.0
    exact = np.abs(np.corrcoef(np.delete(values, 9, 0).astype(np.float64)))
    np.fill_diagonal(exact, 0)
    assert (exact > 0.9999).sum() == 2
    assert alike_values(values, 0.9999) == [(17, 250)]
    assert alike_values(values, 0.998) == [(17, 250), (60, 61)]
    assert alike_values(values[:, :20], 0.9999) is None


def test_rows_that_are_multiples_of_each_other() -> None:
    rows = torch.randn(100, 90, generator=torch.Generator().manual_seed(0))
    rows[3], rows[70], rows[5] = rows[4] * 2, -rows[4], 0
    assert alike_rows(rows) == [(3, 4), (3, 70), (4, 70)]
    assert group_pairs(alike_rows(rows)) == [(3, 4, 70)]


# --- far too large


def scale(layer: nn.Module, following: nn.Module, channel: int, factor: float) -> None:
    """One channel larger here, and smaller where it is read: the network computes the same."""
    with torch.no_grad():
        layer.weight[channel] *= factor
        layer.bias[channel] *= factor
        following.weight[:, channel] /= factor


def test_a_channel_that_is_scaled_up_here_and_down_there(plain: Trained) -> None:
    before = plain.model(plain.pictures[:4])
    scale(at(plain.model, "2"), at(plain.model, "4"), 13, 200.0)
    assert torch.allclose(plain.model(plain.pictures[:4]), before, atol=1e-3)
    (found,) = examined(plain.model, plain.pictures[:32], "asymmetric-scale")
    assert (found.severity, found.layer, found.channels) == ("warning", "2", (13,))
    with torch.no_grad():  # the number, by hand
        given = plain.model[:3](plain.pictures[:32]).movedim(1, 0).flatten(1)  # type: ignore[index,operator]
        sizes = given.abs().amax(1), given.std(1)
    by_hand = min(float(size[13] / size.median()) for size in sizes)
    assert found.value == pytest.approx(by_hand, rel=0.05)


def test_a_norm_that_is_scaled_up(bn: Trained) -> None:
    scale(at(bn.model, "layer1.bn1"), at(bn.model, "layer1.conv2"), 3, 200.0)
    assert warned(bn.model, bn.pictures[:32]) == [("asymmetric-scale", "layer1.bn1", (3,))]


def test_figure_and_sentence_are_about_the_channel_that_becomes_large_here(bn: Trained) -> None:
    scale(at(bn.model, "layer1.bn1"), at(bn.model, "layer1.conv2"), 3, 200.0)
    norm, conv = at(bn.model, "layer1.bn1"), at(bn.model, "layer1.conv1")
    with torch.no_grad():
        conv.weight[6] *= 1e5  # the norm hands it on, far above its own
        norm.running_mean[6] *= 1e5
        norm.running_var[6] *= 1e4
    found = {each.layer: each for each in examined(bn.model, bn.pictures[:32], "asymmetric-scale")}
    own = found["layer1.bn1"]
    assert found["layer1.conv1"].channels == (6,) and own.channels == (3,)
    assert isinstance(own.evidence, Bars) and "6" not in own.evidence.names and own.evidence.bad == 0
    assert own.evidence.names[0] == "3" and own.evidence.values[0] == own.value == max(own.evidence.values)
    assert "without 1 channel that the layer before has as large" in own.evidence.title


def test_a_transformers_linear_layer_that_is_scaled_up(vit: Trained) -> None:
    with torch.no_grad():
        at(vit.model, "blocks.1.linear1").weight[8] *= 500
    assert ("asymmetric-scale", "blocks.1.linear1", (8,)) in warned(vit.model, vit.pictures[:32])


def test_a_channel_of_the_default_model_that_is_scaled_up() -> None:
    model = default_model()
    block = at(model, "blocks.3.0")
    with torch.no_grad():
        block.conv_pwl.weight[5] *= 200
        block.bn3.running_mean[5] *= 200
        block.bn3.running_var[5] *= 200**2
    assert warned(model, lite_pictures(), "asymmetric-scale") == [("asymmetric-scale", "blocks.3.0.conv_pwl", (5,))]


# --- borders


class Padded(nn.Module):
    """A convolution around which something else than zeros is laid."""

    def __init__(self, layer: nn.Module, value: float) -> None:
        super().__init__()
        self.layer, self.value = layer, value
        self.layer.padding = (0, 0)

    def forward(self, values: Tensor) -> Tensor:
        return self.layer(functional.pad(values, (1, 1, 1, 1), value=self.value))


def test_a_large_bias_before_a_padded_convolution_lights_the_border(bn: Trained) -> None:
    with torch.no_grad():
        at(bn.model, "bn1").bias += 20
    (found,) = examined(bn.model, bn.pictures[:32], "padding-artefact")
    assert found.severity == "warning" and found.layer == "layer1.conv1" and found.value > 0.85


def test_padding_with_another_value_than_in_training(bn: Trained) -> None:
    bn.model.layer1.conv2 = Padded(at(bn.model, "layer1.conv2"), 10.0)
    (found,) = examined(bn.model, bn.pictures[:32], "padding-artefact")
    assert (found.severity, found.layer) == ("warning", "layer1.conv2.layer")


def test_a_bias_in_a_network_without_norms(plain: Trained) -> None:
    with torch.no_grad():
        at(plain.model, "0").bias += 15
    assert [each[:2] for each in warned(plain.model, plain.pictures[:32], "padding-artefact")] == [
        ("padding-artefact", "2")
    ]


def test_a_border_in_the_default_model() -> None:
    model = default_model()
    with torch.no_grad():
        at(model, "blocks.2.0.bn3").bias += 10
        at(model, "blocks.2.1.bn1").bias += 5
    found = warned(model, lite_pictures(), "padding-artefact")
    assert [each[1] for each in found] == ["blocks.2.1.conv_dw"]


# --- as a whole


def test_rules_say_what_they_looked_at_and_take_other_limits(bn: Trained) -> None:
    rules = {name: "off" for name in RULES if name not in OURS}
    known: CheckUp = check(bn.model, bn.pictures[:32], rules=rules)
    by_name = {each.rule: each for each in known.checked}
    assert by_name["dead-channels"].why == "5 activations over 32 pictures."
    assert not known.exceeds("warning")
    strict = check(bn.model, bn.pictures[:32], rules=rules, limits={"asymmetric-scale": 1.5, "padding-artefact": 0.01})
    assert strict.of("asymmetric-scale") and strict.of("padding-artefact")


def test_fewer_pictures_than_a_rule_needs_are_told(bn: Trained) -> None:
    rules = {name: "off" for name in RULES if name not in OURS}
    known = check(bn.model, bn.pictures[:4], rules=rules)
    skipped = {each.rule for each in known.checked if each.status == "skipped" and each.rule in OURS}
    assert skipped == {*OURS} - {"asymmetric-scale"}  # which one picture would do for
