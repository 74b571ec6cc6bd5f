"""The rules about what a model is given: values, size, order of colours; and what its BatchNorms store."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import doctor_models as dm
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from hookscope.hooks.doctor import ways
from hookscope.hooks.doctor.chances import at_least, flipped
from hookscope.hooks.doctor.check import check
from hookscope.hooks.doctor.colours import colour_order
from hookscope.hooks.doctor.normalisation import batchnorm_shift
from hookscope.hooks.doctor.patient import CannotTell, Patient, read_patient
from hookscope.hooks.doctor.preparation import preprocessing
from hookscope.hooks.doctor.stored import Stored, divergences, find_stored, shifts, shifts_as_given, watch
from hookscope.hooks.results.findings import KNOW_NOTHING, Bars, Curve, Finding, Known
from hookscope.hooks.rules import RULES

MEAN, STD = (torch.tensor(each)[:, None, None] for each in dm.IMAGENET)
OURS = ("preprocessing", "colour-order", "batchnorm-shift", "class-count", "label-order")
ONLY = {name: "off" for name in RULES if name not in OURS}


def by_imagenet(pixels: Tensor) -> Tensor:
    return (pixels - MEAN) / STD


PREPARED: dict[str, Callable[[Tensor], Tensor]] = {
    "symmetric": lambda pixels: pixels * 2 - 1,
    "unit": lambda pixels: pixels,
    "bytes": lambda pixels: pixels * 255,
    "imagenet": by_imagenet,
    "twice": lambda pixels: (pixels * 2 - 1) * 2 - 1,
    "imagenet twice": lambda pixels: by_imagenet(by_imagenet(pixels)),
    "imagenet of bytes": lambda pixels: by_imagenet(pixels * 255),
    "255 twice": lambda pixels: pixels / 255,
    "less the mean": lambda pixels: (pixels - MEAN) * 255,
}


def found_by(
    rule: Callable[[Patient], Iterator[Finding]], model: nn.Module, pictures: Tensor, **more: Any
) -> list[Finding]:
    return list(rule(read_patient(model, pictures, **more)))


@pytest.fixture(scope="module")
def lite() -> nn.Module:
    return dm.default_model()


# --- the number


def test_the_distance_is_the_mean_of_both_divergences_of_normal_distributions() -> None:
    values = np.random.default_rng(0)
    means, variances = values.normal(size=(2, 5)), values.uniform(0.1, 3, (2, 5))
    one, other = (
        torch.distributions.Normal(torch.from_numpy(m), torch.from_numpy(v).sqrt())
        for m, v in zip(means, variances, strict=True)
    )
    both = (torch.distributions.kl_divergence(one, other) + torch.distributions.kl_divergence(other, one)) / 2
    stored = Stored("", nn.Identity(), means[1], variances[1], 0.0)
    assert np.allclose(divergences(stored, means[0], variances[0]), both.numpy(), rtol=1e-12)


def test_the_shared_pass_says_of_a_batchnorm_what_its_own_inputs_do(lite: nn.Module) -> None:
    patient = read_patient(lite, dm.normalise(dm.photographs(3, 96), *dm.LITE))
    stored = find_stored(patient)
    inputs: dict[str, list[Tensor]] = {name: [] for name in stored}
    handles = [
        one.module.register_forward_pre_hook(lambda module, args, name=name: inputs[name].append(args[0]))
        for name, one in stored.items()
    ]
    with torch.no_grad():
        lite(torch.cat(list(patient.batches)))
    for handle in handles:
        handle.remove()
    quick, own = shifts_as_given(patient), shifts(stored, watch(patient, stored))
    assert list(quick) == list(own) == list(stored)
    for name, one in stored.items():
        values = torch.cat(inputs[name]).double().transpose(0, 1).flatten(1)
        by_hand = float(np.median(divergences(one, values.mean(1).numpy(), values.var(1, correction=0).numpy())))
        assert quick[name] == pytest.approx(by_hand, rel=1e-4, abs=1e-7)
        assert own[name] == pytest.approx(by_hand, rel=1e-3, abs=1e-7)


def test_chances_are_those_of_scipy() -> None:
    for count, of in ((3, 9), (7, 8), (0, 4), (12, 30)):
        assert at_least(count, of) == pytest.approx(stats.binomtest(count, of, alternative="greater").pvalue)
    few, many = np.array([0.3, -0.1, 0.4, 0.2, 0.05, -0.3, 0.7]), np.random.default_rng(1).normal(0.3, 1, 20)
    for differences in (few, many):
        by_scipy = stats.permutation_test(
            (differences,), np.sum, permutation_type="samples", alternative="greater", n_resamples=50_000, rng=0
        )
        assert flipped(differences) == pytest.approx(by_scipy.pvalue, abs=0.01)


@pytest.mark.parametrize("name", [*PREPARED])
def test_values_are_recognised(name: str) -> None:
    pixels = dm.photographs(8, 64)
    way = ways.recognise([PREPARED[name](pixels)], None)
    assert way is not None
    assert torch.allclose(way.pixels(PREPARED[name](pixels).double()).float(), pixels, atol=1e-4)


def test_the_line_of_code_makes_one_way_of_the_other() -> None:
    pixels = dm.photographs(2, 16)
    usual = ways.usual(3)
    for one in usual:
        for other in usual:
            scope = {"images": one.prepare(pixels), "torch": torch}
            exec(ways.line_of_code(one, other), scope)
            assert torch.allclose(scope["images"], other.prepare(pixels), rtol=1e-3, atol=1e-3 * 255)  # type: ignore[arg-type]


# --- values


@pytest.mark.parametrize("number", [0, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 2))])
def test_eight_photographs_settle_how_they_should_have_been_prepared(number: int) -> None:
    model, size = dm.lite(number), (224, 240, 260)[number]
    pixels = dm.photographs(8, size)
    few = PREPARED if not number else dict(list(PREPARED.items())[:5])
    assert not found_by(preprocessing, model, PREPARED["symmetric"](pixels))
    for name, prepare in few.items():
        if name != "symmetric":
            (finding,) = found_by(preprocessing, model, prepare(pixels))
            assert finding.preparation == "symmetric", name
            assert finding.severity == "error" and finding.layer == "bn1" and "--mean 0.5 --std 0.5" in finding.advice
            assert isinstance(finding.evidence, Bars) and finding.evidence.bad == 0
            assert finding.evidence.values[finding.evidence.good] == min(finding.evidence.values)


def test_statistics_of_a_few_batches_say_nothing_of_how_pictures_are_prepared() -> None:
    """Right pictures of a checkpoint after ten batches: what its BatchNorms store is still a third of 0 and 1."""
    torch.manual_seed(0)
    pictures = PREPARED["unit"](dm.photographs(12, 48))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        model[0].weight.mul_(4)
        for batches in (10, 60):
            model.train()
            while int(model[1].num_batches_tracked) < batches:  # type: ignore[arg-type]
                model(pictures)
            norm = find_stored(read_patient(model.eval(), pictures))["1"]
            left = 0.9**batches
            own = model[0](pictures).transpose(0, 1).flatten(1).var(1).numpy()
            assert norm.variance == pytest.approx(left + (1 - left) * own, rel=1e-3)
            if batches == 10:
                said = "1 has seen only 10 batches, and 34.9% of what it stored is still what it began with"
                assert norm.unsettled == said
                with pytest.raises(CannotTell, match=r"seen only 10 batches.* cannot be told .* later checkpoint"):
                    found_by(preprocessing, model, PREPARED["symmetric"](dm.photographs(12, 48)))
                assert all(each.severity == "note" for each in found_by(batchnorm_shift, model, pictures))
            else:
                assert not norm.unsettled and not found_by(preprocessing, model, pictures)
    dm.settle(model, pictures)  # as torch's update_bn
    assert int(model[1].num_batches_tracked) < 5  # type: ignore[arg-type]
    assert not find_stored(read_patient(model, pictures))["1"].unsettled
    model[1].running_var.fill_(2.0)  # type: ignore[operator]
    model[1].num_batches_tracked.zero_()  # type: ignore[operator]
    assert not find_stored(read_patient(model, pictures))["1"].unsettled, "weights that were converted have 0 there"


class InputNorm(nn.Module):
    """A BatchNorm right at the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.BatchNorm2d(3), dm.WithNorms()

    def forward(self, pictures: Tensor) -> Tensor:
        return self.rest(self.first(pictures))


class AfterRelu(nn.Module):
    """A convolution, a ReLU, and only then a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.bn(functional.relu(self.conv(pictures))).mean((2, 3)))


def trained(make: Callable[[], nn.Module], prepare: Callable[[Tensor], Tensor], steps: int = 60) -> nn.Module:
    pixels, labels = dm.tinted_digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().train()
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(steps):
            some = torch.randint(dm.FOR_TESTS, len(pixels), (64,))
            optimiser.zero_grad()
            functional.cross_entropy(model(prepare(pixels[some])), labels[some]).backward()
            optimiser.step()
    return model.eval()


@pytest.mark.parametrize("make", [dm.WithNorms, InputNorm, AfterRelu])
@pytest.mark.parametrize(
    "right", ["symmetric", "bytes", *(pytest.param(each, marks=pytest.mark.slow) for each in ("unit", "imagenet"))]
)
def test_draws_of_eight_digits_name_the_right_preparation_and_leave_it_alone(make: Any, right: str) -> None:
    model = trained(make, PREPARED[right])
    pixels, _ = dm.tinted_digits()
    draws = np.random.default_rng(0)
    for _ in range(6):
        some = pixels[draws.choice(dm.FOR_TESTS, 8, replace=False)]
        assert not found_by(preprocessing, model, PREPARED[right](some))
        for name in ("symmetric", "unit", "bytes", "imagenet"):
            if name != right:
                (finding,) = found_by(preprocessing, model, PREPARED[name](some))
                assert finding.preparation == right, (name, finding.sentence)


def test_a_mean_and_deviation_of_its_own_are_estimated_and_no_usual_way_is_called_right() -> None:
    mean, std = 0.25, 0.16
    model = trained(dm.WithNorms, lambda pixels: (pixels - mean) / std)
    pixels = dm.tinted_digits()[0][:32]
    assert not found_by(preprocessing, model, (pixels - mean) / std)
    (finding,) = found_by(preprocessing, model, pixels)
    assert finding.preparation == "" and "an estimate" in finding.sentence and finding.severity == "warning"
    told = finding.advice.split("--mean ")[1].split(" --std ")
    assert float(told[0]) == pytest.approx(mean, abs=0.05)
    assert float(told[1].rstrip(".")) == pytest.approx(std, rel=0.2)


def test_what_was_told_and_not_applied_or_applied_twice_is_named() -> None:
    found = dm.trained("bn")
    known = replace(KNOW_NOTHING, mean=found.mean, std=found.std)
    assert not found_by(preprocessing, found.model, found.pictures[:16], known=known)
    (forgotten,) = found_by(preprocessing, found.model, found.plain[:16], known=known)
    (twice,) = found_by(preprocessing, found.model, dm.normalise(found.pictures[:16], *dm.DIGITS), known=known)
    assert "look like pixels of 0 to 1" in forgotten.sentence and "as mean 0.31,0.28,0.24" in forgotten.sentence
    assert "normalised twice" in twice.sentence and "as mean 0.31,0.28,0.24" in twice.sentence


def test_an_override_is_held_against_the_weights_own_way(lite: nn.Module) -> None:
    pixels = dm.photographs(8)
    known = Known(mean=dm.IMAGENET[0], std=dm.IMAGENET[1], own="symmetric")
    (finding,) = found_by(preprocessing, lite, by_imagenet(pixels), known=known)
    assert finding.preparation == "symmetric" and "how the weights say" in finding.sentence


def test_grey_pictures_and_models_of_one_channel_are_judged_too(lite: nn.Module) -> None:
    grey = dm.photographs(13).mean(1, keepdim=True)
    assert not found_by(preprocessing, lite, PREPARED["symmetric"](grey.expand(-1, 3, -1, -1)))
    (finding,) = found_by(preprocessing, lite, grey.expand(-1, 3, -1, -1))
    assert finding.preparation == "symmetric"
    of_one = nn.Sequential(nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.AvgPool2d(30), nn.Flatten())
    dm.settle(of_one, dm.tinted_digits()[0][:64, :1])
    (finding,) = found_by(preprocessing, of_one, dm.tinted_digits()[0][:16, :1] * 255)
    assert finding.preparation == "unit"


def test_what_cannot_be_told_is_said(lite: nn.Module) -> None:
    digits = dm.trained("plain")
    cases = (
        (digits.model, digits.pictures[:8], "without a baseline"),
        (dm.trained("vit").model, digits.pictures[:8], "without a baseline"),
        (lite, dm.photographs(1).expand(8, -1, -1, -1), "different pictures"),
        (nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True)), digits.pictures[:8], "without a baseline"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), digits.pictures[:8], "without a baseline"),
        (nn.Sequential(nn.GroupNorm(1, 3), nn.BatchNorm2d(3)), digits.pictures[:8], "there is a GroupNorm"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), digits.pictures[:8], "never seen a picture"),
    )
    for model, pictures, words in cases:
        with pytest.raises(CannotTell, match=words):
            found_by(preprocessing, model.eval(), pictures)


@pytest.mark.parametrize("kind", ["frozen", "half", "timm", "sync"])
def test_batchnorms_of_other_types_count(kind: str) -> None:
    from timm.layers import BatchNormAct2d

    norm: nn.Module = {
        "frozen": lambda: FrozenBatchNorm2d(8),
        "half": lambda: nn.BatchNorm2d(8).half(),
        "timm": lambda: BatchNormAct2d(8),
        "sync": lambda: nn.SyncBatchNorm(8),
    }[kind]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 8, 3)
    pixels = dm.tinted_digits()[0]
    with torch.no_grad():
        values = conv(pixels[:64]).transpose(0, 1).flatten(1)
    norm.running_mean.copy_(values.mean(1))
    norm.running_var.copy_(values.var(1))
    model = nn.Sequential(conv.half() if kind == "half" else conv, norm).eval()
    if kind == "half":
        pixels = pixels.half()
    assert not found_by(preprocessing, model, pixels[100:116])
    (finding,) = found_by(preprocessing, model, pixels[100:116] * 255)
    assert finding.preparation == "unit" and finding.layer == "1"


# --- size


def test_a_size_that_the_weights_know_is_compared(lite: nn.Module) -> None:
    pictures = dm.normalise(dm.photographs(8, 112), *dm.LITE)
    (finding,) = found_by(preprocessing, lite, pictures, known=Known(size=(224, 224)))
    assert finding.preparation == "224x224" and finding.severity == "warning"
    assert "112 × 112" in finding.sentence and "224 × 224" in finding.sentence and finding.value == 2
    assert not found_by(preprocessing, lite, pictures, known=Known(size=(112, 112)))


def test_pictures_that_are_much_too_large_are_found_and_the_right_size_is_not() -> None:
    found = dm.trained("bn")
    large = functional.interpolate(found.pictures[:16], size=64, mode="bilinear")
    (finding,) = found_by(preprocessing, found.model, large)
    assert finding.preparation == "32x32" and finding.about == "input"
    assert not found_by(preprocessing, found.model, found.pictures[:16])


# --- BatchNorms


def shifted(module: Any) -> None:
    module.running_mean.add_(3 * module.running_var.sqrt())


def swollen(module: Any) -> None:
    module.running_var.mul_(100)


def emptied(module: Any) -> None:
    module.reset_running_stats()


def partly(module: Any) -> None:
    count = len(module.running_mean) // 4
    module.running_mean[:count].add_(10 * module.running_var[:count].sqrt())


FAULTS = [(layer, fault) for layer in ("blocks.0.0.bn1", "blocks.4.1.bn3", "bn2") for fault in (shifted, swollen)]
FAULTS += [
    ("bn1", shifted),
    ("bn1", swollen),
    ("blocks.2.1.bn2", emptied),
    ("bn1", emptied),
    ("blocks.4.1.bn3", partly),
]


@pytest.mark.parametrize(
    "layer, fault",
    [pytest.param(*each, marks=pytest.mark.slow if place % 2 else ()) for place, each in enumerate(FAULTS)],
)
def test_the_batchnorm_that_is_wrong_is_named_and_none_behind_it(
    lite: nn.Module, layer: str, fault: Callable[[Any], None]
) -> None:
    model = copy.deepcopy(lite)
    fault(model.get_submodule(layer))
    found = check(model, dm.normalise(dm.photographs(8, 160), *dm.LITE), rules=ONLY)
    (finding,) = found.of("batchnorm-shift")
    assert finding.layer == layer and finding.severity == "warning" and not found.of("preprocessing")
    assert isinstance(finding.evidence, Curve) and finding.evidence.names[finding.evidence.marked[0]] == layer
    if fault is partly:
        assert finding.channels == tuple(range(28))


def test_the_statistics_of_another_layer_are_found_in_a_small_network() -> None:
    found = dm.trained("bn")
    assert not found_by(batchnorm_shift, found.model, found.pictures[:16])
    for name, other in (("layer1.bn2", "layer1.bn1"), ("layer2.bn2", "layer2.bn1"), ("layer1.short.1", "layer1.bn2")):
        model = dm.trained("bn").model
        model.get_submodule(name).load_state_dict(
            {
                key: value if key.startswith("running") else model.get_submodule(name).state_dict()[key]
                for key, value in model.get_submodule(other).state_dict().items()
            }
        )
        (finding,) = found_by(batchnorm_shift, model, found.pictures[:16])
        assert finding.layer == name


def test_a_wrong_preparation_is_no_wrong_batchnorm(lite: nn.Module) -> None:
    for name in ("unit", "bytes", "twice"):
        found = check(lite, PREPARED[name](dm.photographs(8, 160)), rules=ONLY)
        assert [each.rule for each in found.findings] == ["preprocessing"], (name, str(found))


def test_statistics_of_other_pictures_in_all_layers_are_one_note() -> None:
    found = dm.trained("bn")
    for module in found.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.mul_(16)
    (finding,) = found_by(batchnorm_shift, found.model, found.pictures[:16])
    assert finding.severity == "note" and finding.about == "input"


def test_the_model_is_handed_back_as_it_was(lite: nn.Module) -> None:
    model = copy.deepcopy(lite)
    shifted(model.get_submodule("blocks.0.0.bn1"))
    before = copy.deepcopy(model.state_dict())
    check(model, dm.photographs(8, 96) * 255, rules=ONLY)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training or module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# --- nothing on the healthy


@pytest.mark.parametrize("number", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_random_sets_of_samples_find_nothing(number: int) -> None:
    model, size = dm.lite(number), (224, 240, 260)[number]
    pictures = dm.normalise(dm.photographs(26, size), *dm.LITE)
    draws = np.random.default_rng(number)
    for count in (8, 12) if number else (8, 8, 16):
        some = pictures[draws.choice(26, count, replace=False)]
        found = check(model, some, rules=ONLY, classes=[str(each) for each in range(1000)])
        assert not found.findings, str(found)


# --- colours


def coloured_net() -> tuple[nn.Module, Tensor, Tensor]:
    """A network that tells digits by their colours too, its pictures and their labels."""
    pixels, labels = dm.tinted_digits()
    hue = torch.stack([1 - labels / 9, torch.full_like(labels, 0.3, dtype=torch.float), labels / 9], 1)
    pictures = (pixels * hue[:, :, None, None]) * 2 - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = dm.WithNorms().train()
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(60):
            some = torch.randint(dm.FOR_TESTS, len(pixels), (64,))
            optimiser.zero_grad()
            functional.cross_entropy(model(pictures[some]), labels[some]).backward()
            optimiser.step()
    return model.eval(), pictures[: dm.FOR_TESTS], labels[: dm.FOR_TESTS]


def test_exchanged_colours_are_told_by_labels_and_never_claimed_of_right_ones() -> None:
    model, pictures, labels = coloured_net()
    (finding,) = found_by(colour_order, model, pictures[:32].flip(1), labels=labels[:32].numpy())
    assert finding.preparation == "bgr" and finding.severity == "error" and finding.value < 0.01
    for start in range(0, 400, 40):
        some = slice(start, start + 16)
        for told in (labels[some].numpy(), None):
            patient = read_patient(model, pictures[some], labels=told)
            try:
                assert not list(colour_order(patient))
            except CannotTell as reason:
                assert told is None, reason


@pytest.mark.parametrize("spec", ["torchvision:regnet_y_400mf", "timm:mobilevit_xxs"])
def test_confidence_without_reason_is_no_evidence_of_an_order(spec: str) -> None:
    model, pictures = dm.healthy(spec)  # random weights are surer of one order, too, and mean nothing by it
    with pytest.raises(CannotTell, match="cannot be told without labels"):
        found_by(colour_order, model, pictures)


def test_the_page_prepares_the_other_order_and_names_it() -> None:
    model, pictures, labels = coloured_net()
    patient = read_patient(
        model,
        pictures[:24].flip(1),
        labels=labels[:24].numpy(),
        otherwise=lambda text: [pictures[:24].flip(1) if text == "bgr" else pictures[:24]],
    )
    (finding,) = colour_order(patient)
    assert finding.preparation == "rgb"


def test_where_colours_cannot_be_told_that_is_said(lite: nn.Module) -> None:
    pictures = dm.normalise(dm.photographs(13, 160), *dm.LITE)
    for given in (pictures, pictures.flip(1)):
        with pytest.raises(CannotTell, match="cannot be told without labels"):
            found_by(colour_order, lite, given)
    with pytest.raises(CannotTell, match="are in colour"):
        found_by(colour_order, lite, pictures[:, :1].expand(-1, 3, -1, -1))
    with pytest.raises(CannotTell, match="1 channel"):
        found_by(colour_order, nn.Conv2d(1, 2, 3), pictures[:, :1])
