"""Faults and sets beside those that the rules were written for: each was missed, or told of a healthy model, once."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import doctor_models as dm
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binom
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.doctor.answers import by_chance
from hookscope.hooks.doctor.by_labels import is_better
from hookscope.hooks.doctor.chances import as_often
from hookscope.hooks.doctor.check import check
from hookscope.hooks.doctor.consequences import mark_consequences
from hookscope.hooks.doctor.initial import Judged, all_initial
from hookscope.hooks.doctor.loading import name_layers
from hookscope.hooks.doctor.patient import read_patient
from hookscope.hooks.doctor.state import training_mode
from hookscope.hooks.doctor.stored import find_stored
from hookscope.hooks.doctor.values import saturated
from hookscope.hooks.doctor.variety import between, in_grey, unlike_the_trainings
from hookscope.hooks.doctor.ways import by_extremes, each_by_itself, recognise
from hookscope.hooks.results.findings import CheckUp, Finding, Known
from hookscope.hooks.rules import RULES


def found(model: nn.Module, pictures: Tensor, *rules: str, **more: object) -> CheckUp:
    """What these rules find."""
    off = {name: "off" for name in RULES if name not in rules}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing of numpy's reaches people
        up = check(model, pictures, rules=off, **more)
    assert not up.failed
    return up


def the_one(up: CheckUp) -> Finding:
    (finding,) = (each for each in up.findings if each.severity != "note")
    return finding


def loud(up: CheckUp) -> list[str]:
    return [f"{each.rule} at {each.layer}" for each in up.findings if each.severity != "note"]


class Own(nn.Module):
    """An activation function of somebody's own, under a name that says nothing."""

    def __init__(self, function: object, factor: float = 1.0) -> None:
        super().__init__()
        self.function, self.factor = function, factor

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values * self.factor)


# --- activation functions in modules of somebody's own


def test_dead_channels_behind_a_module_of_ones_own_that_ends_with_relu() -> None:
    net = dm.trained("bn")
    net.model.get_submodule("layer1").relu1 = Own(functional.relu).eval()
    assert loud(found(net.model, net.pictures[:8], "dead-channels")) == []
    net.model.get_submodule("layer1.bn1").bias.data[:20] = -10
    finding = the_one(found(net.model, net.pictures[:8], "dead-channels"))
    assert (finding.layer, finding.among) == ("layer1.relu1", 32) and set(range(20)) <= set(finding.channels)


def test_a_tanh_of_ones_own_that_is_saturated() -> None:
    net = dm.trained("tanh")
    net.model[1] = Own(torch.tanh, 80.0)
    finding = the_one(found(net.model, net.pictures[:8], "saturated"))
    with torch.no_grad():
        given = net.model[0](net.pictures[:8]) * 80
    assert finding.layer == "1" and finding.value == pytest.approx(float((given.abs() > 9.5).float().mean()), abs=0.05)


def test_a_share_of_what_a_relu6_lets_through_is_never_above_1() -> None:
    class Sixes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU6()

        def forward(self, pictures: Tensor) -> Tensor:
            return self.act(pictures).mean((2, 3))

    for seed in range(4):
        own = torch.Generator().manual_seed(seed)
        pictures = torch.where(torch.rand(8, 3, 40, 40, generator=own) < 0.5, -1.0, 9.0)
        (finding,) = saturated(read_patient(Sixes(), pictures))
        assert finding.value == 1.0  # each is 0 or 6


# --- values that are not finite, and float16


class Overflowing(nn.Module):
    """A convolution beyond the largest number of float32, cut off by a ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 8, 3), nn.ReLU6()
        self.conv.weight.data.mul_(1e38)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.act(self.conv(pictures)).mean((2, 3))


def test_a_sum_that_overflows_is_told_although_the_answer_is_finite() -> None:
    pictures = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 1e3
    finding = the_one(found(Overflowing(), pictures, "non-finite"))
    assert (finding.layer, finding.severity) == ("conv", "warning") and "the answer is finite" in finding.sentence


def test_an_infinite_value_that_is_put_aside_is_a_note() -> None:
    class Aside(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            whole = pictures.mean((2, 3))
            return torch.where(torch.isfinite(kept := whole / (whole - whole)), kept, whole)

    (finding,) = found(Aside(), torch.rand(8, 3, 8, 8) + 0.1, "non-finite").findings
    assert (finding.layer, finding.severity) == ("/div", "note")


def test_weights_that_float16_makes_0_and_small_shares_of_a_sigmoid_are_no_fault() -> None:
    net = dm.trained("tanh")
    assert loud(found(net.model.half(), net.pictures[:8].half(), "precision")) == []
    other = dm.trained("bn")
    other.model.get_submodule("layer1.conv1").weight.data[3] = 1e-9
    assert loud(found(other.model.half(), other.pictures[:8].half(), "constant-channels")) == []


def test_values_that_underflow_are_told_once_where_they_begin() -> None:
    net = dm.trained("plain")
    model = net.model.half()
    for weight in model[4].parameters():
        weight.data.mul_(1e-6)
    finding = the_one(found(model, net.pictures[:8].half(), "precision"))
    assert (finding.layer, finding.value) == ("4", 1.0)


# --- state and initialisation


def test_weights_that_are_standardised_by_batch_norm_are_no_batch() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, pictures: Tensor) -> Tensor:
            weight = functional.batch_norm(self.weight.reshape(1, len(self.weight), -1), None, None, training=True)
            return functional.conv2d(pictures, weight.reshape_as(self.weight))

    class ByBatch(nn.Conv2d):
        def forward(self, pictures: Tensor) -> Tensor:
            return functional.batch_norm(super().forward(pictures), None, None, training=True)

    pictures = torch.rand(4, 3, 12, 12)
    assert list(training_mode(read_patient(nn.Sequential(Standardised(3, 8, 3)).eval(), pictures))) == []
    (finding,) = training_mode(read_patient(nn.Sequential(ByBatch(3, 8, 3)).eval(), pictures))
    assert finding.layer == "0"
    many = nn.Sequential(ByBatch(3, 8, 1), *(ByBatch(8, 8, 1) for _ in range(11))).eval()
    (finding,) = training_mode(read_patient(many, pictures))
    assert finding.layer == "0" and "11 layers after it" in finding.sentence


def test_a_scale_that_was_drawn_beside_an_offset_of_0_is_not_trained() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32))
    for norm in (model[1], model[4]):
        nn.init.normal_(norm.weight, 0.1, 0.1)
    dm.settle(model, torch.rand(8, 3, 16, 16))
    assert all_initial(model)


def test_normalisations_whose_offsets_were_drawn_too_do_not_make_a_random_model_a_trained_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(part for _ in range(12) for part in (nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))))
    for norm in model[1::2]:
        nn.init.normal_(norm.weight, 0.1, 0.1), nn.init.normal_(norm.bias, 0, 0.1)
    dm.settle(model, torch.rand(4, 16, 8, 8))
    assert all_initial(model)
    model[6].weight.data[3:] *= torch.linspace(0.2, 3, 13)[:, None, None, None]  # one that was trained
    assert not all_initial(model)


def test_a_first_convolution_that_was_drawn_anew_is_named_in_a_well_trained_network() -> None:
    model = dm.default_model()
    nn.init.kaiming_normal_(model.conv_stem.weight, mode="fan_out", generator=torch.Generator().manual_seed(1))
    pictures = dm.normalise(dm.photographs(1, 64), *dm.LITE)
    finding = the_one(found(model, pictures, "partly-initialised"))
    assert (finding.layer, finding.severity) == ("conv_stem", "error")
    assert loud(found(dm.default_model(), pictures, "partly-initialised")) == []


# --- pictures


def test_pictures_that_are_each_normalised_by_themselves_are_told() -> None:
    pixels = dm.photographs(8, 96)
    alone = (pixels - pixels.mean((1, 2, 3), keepdim=True)) / pixels.std((1, 2, 3), keepdim=True)
    assert each_by_itself([alone]) and not each_by_itself([dm.normalise(pixels, *dm.IMAGENET)])
    by_channel = (pixels - pixels.mean((2, 3), keepdim=True)) / pixels.std((2, 3), keepdim=True)
    assert each_by_itself([by_channel])
    net = dm.trained("bn")
    plain = net.plain[:8] + 0.3  # of another kind than those of the training
    alone = (plain - plain.mean((1, 2, 3), keepdim=True)) * 3 / plain.std((1, 2, 3), keepdim=True)
    assert not each_by_itself([alone])
    finding = the_one(
        found(net.model, alone / 3, "preprocessing", limits={"preprocessing": 1.5, "preprocessing.least": 0.01})
    )
    assert "by itself" in finding.sentence and finding.layer == "bn1"


@pytest.mark.parametrize("middle", [127.5, 128.0])
def test_bytes_less_their_middle_are_recognised(middle: float) -> None:
    pixels = dm.photographs(8, 64)
    way = recognise([pixels * 255 - middle], None)
    assert way is not None
    assert torch.allclose(way.pixels((pixels * 255 - middle).double()).float(), pixels, atol=3e-3)


def test_values_of_no_usual_range_are_told_by_their_extremes() -> None:
    net = dm.trained("bn")
    strange = net.plain[:8] * 900 - 333
    way = by_extremes([strange])
    assert way is not None and torch.allclose(way.pixels(strange).amax(), torch.tensor(1.0))
    up = found(net.model, strange, "preprocessing")
    assert up.findings and up.findings[0].rule == "preprocessing" and "values of -3" in up.findings[0].sentence


def test_other_labels_and_other_values_are_no_other_colours() -> None:
    net = dm.trained("bn")
    labels = np.random.default_rng(3).permutation(10)[net.labels[:64].numpy()]
    up = found(net.model, net.pictures[:64], "label-order", "colour-order", labels=labels, most=0)
    assert {each.rule for each in up.findings} == {"label-order"}
    up = found(net.model, net.plain[:16] * 255, "preprocessing", "colour-order", labels=net.labels[:16].numpy())
    assert loud(up) == ["preprocessing at bn1"]


def test_pictures_of_one_class_are_no_shift_of_the_last_batchnorm() -> None:
    net = dm.trained("bn")
    for number in range(10):
        own = (net.labels == number).nonzero()[:12, 0]
        for labels in (net.labels[own].numpy(), None):
            assert loud(found(net.model, net.pictures[own], "preprocessing", "batchnorm-shift", labels=labels)) == []
    net.model.get_submodule("layer2.bn2").running_var.mul_(10)
    finding = the_one(found(net.model, net.pictures[own], "batchnorm-shift"))
    assert finding.layer == "layer2.bn2"


def crops(name: str, count: int = 9) -> Tensor:
    """Parts of one photograph, 0..1."""
    picture, own = Image.open(dm.SAMPLES / name).convert("RGB"), np.random.default_rng(0)
    some = []
    for _ in range(count):
        side = int(min(picture.size) * own.uniform(0.55, 1))
        left, top = own.integers(0, picture.width - side + 1), own.integers(0, picture.height - side + 1)
        some.append(np.asarray(picture.crop((left, top, left + side, top + side)).resize((224, 224))))
    return torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("name", ["chelsea.png", "brick.jpg", "galaxies.jpg"])
def test_pictures_of_a_narrow_kind_are_no_fault_of_the_default_model(name: str) -> None:
    pictures = dm.normalise(crops(name), *dm.LITE)
    up = found(dm.default_model(), pictures, "preprocessing", "batchnorm-shift", "dead-channels")
    assert loud(up) == [], up


def test_the_means_of_a_first_batchnorm_are_held_against_the_weights_before_it() -> None:
    model, narrow = dm.default_model(), dm.normalise(crops("brick.jpg"), *dm.LITE)
    patient = read_patient(model, narrow)
    assert unlike_the_trainings(patient, find_stored(patient)["bn1"])
    model.bn1.running_mean.add_(3 * model.bn1.running_var.sqrt())
    patient = read_patient(model, narrow)
    assert not unlike_the_trainings(patient, find_stored(patient)["bn1"])
    usual = read_patient(dm.default_model(), dm.normalise(dm.photographs(8), *dm.LITE))
    assert not unlike_the_trainings(usual, find_stored(usual)["bn1"])


def test_the_variance_between_pictures_is_that_of_numpy() -> None:
    pictures = torch.rand(9, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * torch.rand(9, 1, 1, 1)
    values = pictures.double().numpy()
    by_hand = np.mean([values[:, at].mean((1, 2)).var() / values[:, at].var() for at in range(3)])
    assert math.isclose(between(read_patient(nn.Identity(), pictures.split(4))), by_hand, rel_tol=1e-9)


# --- one fault is one failure


def test_what_follows_from_another_preparation_is_a_note_that_names_it() -> None:
    net = dm.trained("bn")
    found_all = check(net.model, dm.normalise(1 - net.plain[:16], *dm.DIGITS), mean=net.mean, std=net.std)
    assert loud(found_all) == ["preprocessing at bn1"]
    finding = the_one(found_all)
    assert "bright and dark exchanged" in finding.sentence and finding.severity == "error"
    scope = {"images": dm.normalise(1 - net.plain[:1], *dm.DIGITS), "torch": torch}
    exec(finding.advice.split("`")[1], scope)
    assert torch.allclose(scope["images"], net.pictures[:1], atol=1e-4)
    follows = [each for each in found_all.findings if "Probably a consequence of preprocessing" in each.sentence]
    assert follows and {each.severity for each in follows} == {"note"} and found_all.exceeds("warning")
    alone = found(net.model, dm.normalise(1 - net.plain[:16], *dm.DIGITS), "padding-artefact")
    assert loud(alone) == ["padding-artefact at layer1.short.0"]  # nothing else was looked at that explains it


def test_what_weights_show_is_no_consequence_and_a_severity_that_somebody_wants_stays() -> None:
    net = dm.trained("bn")
    weight = net.model.get_submodule("layer2.conv1").weight
    with torch.no_grad():
        weight[3] = 2 * weight[9]
    up = check(net.model, net.plain[:16] * 255, mean=net.mean, std=net.std)
    assert loud(up) == ["preprocessing at bn1", "duplicate-channels at layer2.conv1"]
    up = check(net.model, dm.normalise(1 - net.plain[:16], *dm.DIGITS), rules={"padding-artefact": "warning"})
    assert "padding-artefact at layer1.short.0" in loud(up)


def test_a_wrong_batchnorm_is_the_cause_of_what_is_dead_behind_it_and_not_the_other_way_round() -> None:
    net = dm.trained("bn")
    norm = net.model.get_submodule("layer1.bn1")
    norm.running_mean.add_(40 * norm.running_var.sqrt())
    up = check(net.model, net.pictures[:16], mean=net.mean, std=net.std)
    assert up.findings[0].rule == "batchnorm-shift" and up.findings[0].layer == "layer1.bn1"
    dead = next(each for each in up.of("dead-channels") if each.layer == "layer1.relu1")
    assert dead.severity == "note" and "batchnorm-shift at layer1.bn1" in dead.sentence
    net = dm.trained("bn")
    net.model.get_submodule("layer1.bn1").bias.data[:] = -40
    up = check(net.model, net.pictures[:16], mean=net.mean, std=net.std)
    assert "dead-channels at layer1.relu1" in loud(up)
    assert not any(each.startswith("batchnorm-shift") for each in loud(up))


def test_half_of_a_layers_channels_that_lie_far_below_0_are_dead() -> None:
    """Half of them are not more than half, and by the magnitude of all channels none of them lies far below 0."""
    net = dm.trained("bn")
    net.model.get_submodule("layer1.bn1").bias.data[:16] = -40
    finding = the_one(found(net.model, net.pictures[:12], "dead-channels"))
    assert finding.layer == "layer1.relu1" and set(range(16)) <= set(finding.channels)


def test_mixtures_of_colours_that_are_alike_in_photographs_do_not_repeat_each_other() -> None:
    pictures = dm.photographs(8, 64).mean(1, keepdim=True) + 1e-3 * torch.rand(8, 3, 64, 64)  # nearly grey
    model = nn.Conv2d(3, 12, 1, bias=False).eval()
    model.weight.data = torch.rand(12, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(
        model, nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 8, 3), nn.Flatten(), nn.LazyLinear(4)
    ).eval()
    model(pictures[:1])
    known = Known(random=False)
    assert loud(found(model, pictures, "duplicate-channels", known=known)) == []
    model[0].weight.data[3] = -3 * model[0].weight.data[5]
    finding = the_one(found(model, pictures, "duplicate-channels", known=known))
    assert (finding.layer, finding.channels) == ("0", (3, 5))


def test_a_network_of_which_a_training_shows_in_few_layers_only_has_none_that_is_called_initial() -> None:
    pixels, labels = dm.tinted_digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16)),
            *(nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 64)),
            *(nn.ReLU(), nn.Linear(64, 10)),
        )
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(4):
            for some in (torch.randperm(len(pixels) - 400) + 400)[:1344].split(64):
                optimiser.zero_grad()
                functional.cross_entropy(model(dm.normalise(pixels[some], *dm.DIGITS)), labels[some]).backward()
                optimiser.step()
    up = found(model.eval(), dm.normalise(pixels[:8], *dm.DIGITS), "partly-initialised")
    assert loud(up) == []


def test_answers_that_are_not_finite_bring_no_warning_of_numpys() -> None:
    net = dm.trained("plain")
    with torch.no_grad():
        net.model[10].bias[2] = float("nan")
    assert the_one(found(net.model, net.pictures[:8], "non-finite", "label-order", labels=net.labels[:8])).layer == "10"


# --- what labels say


def test_the_binomial_test_is_that_of_scipy() -> None:
    for count, of, chance in ((3, 32, 0.001), (3, 32, 0.1), (29, 64, 0.4), (0, 5, 0.2), (8, 8, 0.125)):
        assert as_often(count, of, chance) == pytest.approx(float(binom.sf(count - 1, of, chance)), rel=1e-9)


def test_three_of_32_are_chance_of_ten_classes_and_far_from_it_of_1000() -> None:
    own = np.random.default_rng(0)
    for classes, chance in ((10, True), (1000, False)):
        labels = own.integers(0, classes, 32)
        best = (labels + 1 + own.integers(0, classes - 1, 32)) % classes  # all wrong
        best[:3] = labels[:3]
        assert (by_chance(best, labels, classes) > 0.05) is chance


@pytest.mark.parametrize("kind", ["bn", "plain"])
def test_answers_that_are_chance_are_an_error_where_another_preparation_makes_them_right(kind: str) -> None:
    net = dm.trained(kind)
    pictures = dm.normalise(1 - net.plain[:32], net.mean, net.std)
    told = {"labels": net.labels[:32].numpy(), "mean": net.mean, "std": net.std}
    up = found(net.model, pictures, "preprocessing", "label-order", **told)
    finding = the_one(up)
    with torch.no_grad():
        right = [int((net.model(each).argmax(1) == net.labels[:32]).sum()) for each in (pictures, net.pictures[:32])]
    assert (finding.rule, finding.severity) == ("preprocessing", "error")
    assert f"the label of {right[0]} of 32" in finding.sentence and f"it would be of {right[1]} (p" in finding.sentence
    assert "Exchange bright and dark" in finding.advice and finding.evidence.values[finding.evidence.good] == right[1]
    (order,) = up.of("label-order")
    assert order.severity == "note" and "consequence of preprocessing" in order.sentence
    assert loud(found(net.model, net.pictures[:32], "preprocessing", "label-order", **told)) == []


def test_labels_decide_between_preparations_only_where_right_answers_differ_enough() -> None:
    net = dm.trained("bn")
    labels = net.labels[:32].numpy()
    raw, right = (read_patient(net.model, each[:32], labels=labels) for each in (net.plain, net.pictures))
    assert is_better(raw, lambda: net.pictures[:32].split(8)) and not is_better(right, lambda: net.plain[:32].split(8))
    assert not is_better(right, lambda: [net.plain[:32] * 2 - 1])  # which is answered nearly as well
    assert not is_better(read_patient(net.model, net.plain[:32]), lambda: [net.pictures[:32]])  # without labels


def test_a_trained_model_whose_answers_are_chance_is_no_pass() -> None:
    net = dm.trained("plain")
    layer = next(each for each in list(net.model.modules())[::-1] if isinstance(each, nn.Linear))
    layer.weight.data = layer.weight.data[
        :, torch.randperm(layer.in_features, generator=torch.Generator().manual_seed(1))
    ]
    labels = net.labels[:48].numpy()
    finding = the_one(found(net.model, net.pictures[:48], "label-order", labels=labels))
    with torch.no_grad():
        right = int((net.model(net.pictures[:48]).argmax(1) == net.labels[:48]).sum())
    assert (finding.severity, finding.about) == ("warning", "answer")
    assert f"the label of {right} of 48 pictures, no more than by chance" in finding.sentence
    few = found(net.model, net.pictures[:12], "label-order", labels=[0, 1, 2] * 4)
    assert loud(few) == []
    others = found(net.model, net.pictures[:48], "label-order", labels=labels, classes=("a", "b"))
    assert "no more than by chance" not in str(others)  # class-count tells of these names


def test_answers_that_are_not_finite_are_said_to_be_so_by_what_compares_them() -> None:
    net = dm.trained("plain")
    net.model.get_parameter(next(name for name, _ in net.model.named_parameters())).data.fill_(math.nan)
    up = found(net.model, net.pictures[:16], "label-order", "colour-order", labels=net.labels[:16].numpy())
    reasons = {each.rule: each.why for each in up.checked if each.rule in ("label-order", "colour-order")}
    assert len(reasons) == 2 and all("not finite" in why for why in reasons.values())


def test_another_order_of_the_colours_explains_another_order_of_the_labels() -> None:
    colours = Finding("colour-order", "error", "Red and blue are exchanged.", about="input")
    labels = Finding("label-order", "error", "Two classes are exchanged.", about="answer")
    patient = read_patient(nn.Conv2d(3, 1, 1), torch.rand(2, 3, 8, 8))
    first, second = mark_consequences(patient, [colours, labels])
    assert first == colours and second.severity == "note" and "consequence of colour-order" in second.sentence
    assert mark_consequences(patient, [labels]) == [labels]


def test_pictures_without_colour_are_told_however_they_were_normalised() -> None:
    grey, net = torch.rand(4, 1, 8, 8).expand(-1, 3, -1, -1), nn.Conv2d(3, 1, 1)
    assert in_grey(read_patient(net, dm.normalise(grey, *dm.IMAGENET))) and in_grey(read_patient(net, grey))
    assert not in_grey(read_patient(net, torch.rand(4, 3, 8, 8)))


# --- layers that were left as they were made


def test_a_bias_of_0_does_not_make_a_trained_head_one_that_was_just_made() -> None:
    unsure = Judged("head", "initial", "its 640 weights are like draws", zero=True, doubt=2.0, largest=640, size=650)
    trained = [
        Judged(f"layer{number}", "trained", doubt=9.0, effect=0.1, largest=4000, size=4000) for number in range(5)
    ]
    assert [each.unsure for each in name_layers([*trained, unsure])] == [True]
    large = replace(unsure, largest=20_000)  # of which a training would show
    assert [each.unsure for each in name_layers([*trained, large])] == [False]


def test_batchnorms_without_statistics_are_one_finding_that_names_them_all() -> None:
    net = dm.trained("bn")
    norms = [name for name, each in net.model.named_modules() if isinstance(each, nn.BatchNorm2d)]
    for name in norms:
        net.model.get_submodule(name).reset_running_stats()
    finding = the_one(found(net.model, net.pictures[:8], "partly-initialised"))
    assert finding.layer == norms[0] and finding.value == len(norms) > 1 and norms[1] in finding.sentence
