"""A model against its stored baseline: what was changed is found and named, and a healthy repeat is left alone."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doctor_models import IMAGENET, LITE, default_model, normalise, photographs, trained
from helpers import assert_untouched
from torch import Tensor, nn

import hookscope as hs
from hookscope.hooks.datasets.scoring import choose_places, mark_of
from hookscope.hooks.doctor.baseline.deviations import deviations_of, tolerances
from hookscope.hooks.doctor.baseline.given_pictures import compare_pictures, proposal
from hookscope.hooks.doctor.baseline.marks import change_of, match_rows, pictures_of, weights_of
from hookscope.hooks.doctor.baseline.rule import baseline as rule
from hookscope.hooks.doctor.baseline.writing import look_at_all, make_baseline, read_baseline_for, write_baseline
from hookscope.hooks.doctor.patient import CannotTell, Patient, read_patient
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.findings import Curve, Finding, Known
from hookscope.hooks.rules import RULES

COUNT = 24


@dataclass
class Case:
    """A model, its pictures in 0..1 and as it is given them, and where its baseline lies."""

    kind: str
    model: nn.Module
    plain: Tensor
    pictures: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    path: Path
    classes: tuple[str, ...]

    def found(self, model: nn.Module | None = None, pictures: Tensor | None = None, **known: Any) -> list[Finding]:
        """What the rule alone finds."""
        return list(rule(self.patient(model, pictures, **known)))

    def patient(self, model: nn.Module | None = None, pictures: Tensor | None = None, **known: Any) -> Patient:
        """Somebody who may have been changed, with the baseline."""
        known.setdefault("classes", self.classes)
        given = self.pictures if pictures is None else pictures
        patient = read_patient(self.model if model is None else model, given, known=Known(**known))
        patient.found["baseline"] = self.path
        return patient


def case_of(kind: str, folder: Path) -> Case:
    if kind == "lite0":
        model, plain, mean, std, count = default_model(), photographs(8).contiguous(), *LITE, 1000
    else:
        found = trained(kind)
        model, plain, mean, std, count = found.model, found.plain[:COUNT], found.mean, found.std, 10
    classes = tuple(f"class {number}" for number in range(count))
    path = folder / f"{kind}.json"
    case = Case(kind, model, plain, normalise(plain, mean, std), mean, std, path, classes)
    write_baseline(read_patient(model, case.pictures, known=Known(classes=classes)), path)
    return case


@pytest.fixture(scope="module", params=["bn", "plain", "vit", "lite0"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(request.param, tmp_path_factory.mktemp("baselines"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of("bn", tmp_path_factory.mktemp("digits"))


def changed(case: Case, change: Callable[[nn.Module], object]) -> nn.Module:
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        change(model)
    return model


def weighted(model: nn.Module, *kinds: type[nn.Module]) -> list[tuple[str, Any]]:
    """Layers of these kinds that run by themselves."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    return [each for each in found if "out_proj" not in each[0]]


def only(findings: Sequence[Finding]) -> Finding:
    assert len(findings) == 1, [each.sentence for each in findings]
    return findings[0]


# --- the six changes of docs and CI


def test_healthy_repeat_finds_nothing(case: Case) -> None:
    before = torch.get_num_threads()
    with assert_untouched(case.model):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            try:
                patient = case.patient()
                assert list(rule(patient)) == []
            finally:
                torch.set_num_threads(before)
    assert f"over {len(case.pictures)} pictures" in str(patient.found["baseline: looked at"])


@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_re_initialised_layer_is_named(case: Case, place: float) -> None:
    layers = weighted(case.model, nn.Conv2d, nn.Linear)
    name = layers[int(place * len(layers)) if place >= 0 else -1][0]
    torch.manual_seed(3)
    model = changed(case, lambda net: net.get_submodule(name).reset_parameters())  # type: ignore[operator]
    found = only(case.found(model))
    assert (found.rule, found.severity, found.layer) == ("baseline", "error", name)
    assert f"{name} looks re-initialised" in found.sentence and "limit" in found.sentence
    assert found.sentence.count(case_day(case)) == 1 and found.excess > 1
    assert isinstance(found.evidence, Curve) and found.evidence.names[found.evidence.marked[0]] == name
    assert (found.evidence.values[: found.evidence.marked[0]] <= 1).all()  # the first one


def case_day(case: Case) -> str:
    return str(json.loads(case.path.read_text())["made"])


@pytest.mark.parametrize("place", [0, -1])
def test_zeroed_channel_is_named(case: Case, place: int) -> None:
    name, layer = weighted(case.model, nn.Conv2d)[place]
    channel = 5 if len(layer.weight) > 5 else 1

    def zero(net: nn.Module) -> None:
        module = net.get_submodule(name)
        module.weight[channel] = 0  # type: ignore[index, operator]
        if module.bias is not None:
            module.bias[channel] = 0  # type: ignore[index, operator]

    found = only(case.found(changed(case, zero)))
    assert (found.rule, found.layer, found.channels) == ("baseline", name, (channel,))
    assert f"hannel {channel} of {len(layer.weight):,} in {name} is zeroed" in found.sentence


def test_statistics_that_moved_are_named(case: Case) -> None:
    def move(net: nn.Module) -> None:
        net.train()
        net(case.pictures[:8])
        net.eval()

    found = case.found(changed(case, move))
    norms = weighted(case.model, nn.BatchNorm2d)
    if not norms:
        assert found == []
        return
    one = only(found)
    assert (one.rule, one.severity, one.layer) == ("baseline", "error", norms[0][0])
    assert f"BatchNorm running statistics of {len(norms)} layers" in one.sentence
    assert "the weights are as they were" in one.sentence


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_weights_are_a_matter_of_precision(case: Case, dtype: torch.dtype) -> None:
    found = only(case.found(changed(case, lambda net: net.to(dtype).float())))
    assert found.rule == "precision" and f"rounded to {str(dtype)[6:]}" in found.sentence
    assert found.severity == "warning" and found.excess > 1


def test_wrong_normalisation_is_named_with_what_is_right(case: Case) -> None:
    found = only(case.found(pictures=case.plain, mean=(0.0,) * 3, std=(1.0,) * 3))
    assert (found.rule, found.severity, found.about) == ("preprocessing", "error", "input")
    for value in (*case.mean, *case.std):
        assert f"{value:.4g}" in found.advice
    assert found.preparation == ("symmetric" if case.kind == "lite0" else "")
    twice = only(case.found(pictures=normalise(case.pictures, case.mean, case.std)))
    assert twice.rule == "preprocessing" and "normalised otherwise" in twice.sentence
    bytes_ = only(case.found(pictures=case.plain * 255))
    assert bytes_.rule == "preprocessing"


def test_class_order_is_named(case: Case) -> None:
    name, head = weighted(case.model, nn.Linear)[-1]
    order = torch.arange(len(head.weight))
    order[[3, 7]] = order[[7, 3]]

    def swap(net: nn.Module) -> None:
        own = net.get_submodule(name)
        own.weight.copy_(own.weight[order].clone())  # type: ignore[operator, index]
        own.bias.copy_(own.bias[order].clone())  # type: ignore[operator, index]

    found = only(case.found(changed(case, swap)))
    assert (found.rule, found.layer, found.channels) == ("label-order", name, (3, 7))
    assert "3 (class 3) is what 7 was" in found.sentence and "7 (class 7) is what 3 was" in found.sentence
    names = list(case.classes)
    names[2], names[4] = names[4], names[2]
    of_names = only(case.found(classes=tuple(names)))
    assert of_names.rule == "label-order" and of_names.channels == (2, 4) and "class names" in of_names.sentence
    both = [case.classes[place] for place in order]
    assert case.found(changed(case, swap), classes=tuple(both)) == []  # every name is beside its answer


# --- neighbours of these


def test_neighbouring_changes_are_told_apart(digits: Case) -> None:
    def scale(net: nn.Module) -> None:
        net.layer1.conv1.weight.mul_(2)  # type: ignore[union-attr, operator]

    found = only(digits.found(changed(digits, scale)))
    assert found.layer == "layer1.conv1" and "multiplied by 2" in found.sentence

    def permute(net: nn.Module) -> None:
        net.layer1.conv1.weight.copy_(net.layer1.conv1.weight.flip(0).clone())  # type: ignore[union-attr, operator]

    found = only(digits.found(changed(digits, permute)))
    assert found.rule == "baseline" and "another order" in found.sentence and found.layer == "layer1.conv1"

    def reset(net: nn.Module) -> None:
        net.layer2.bn1.reset_parameters()  # type: ignore[union-attr, operator]

    found = only(digits.found(changed(digits, reset)))
    assert found.layer == "layer2.bn1" and "re-initialised" in found.sentence

    def forget(net: nn.Module) -> None:
        net.layer2.bn1.reset_running_stats()  # type: ignore[union-attr, operator]

    found = only(digits.found(changed(digits, forget)))
    assert found.layer == "layer2.bn1" and "back at 0 and 1" in found.sentence

    def edit(net: nn.Module) -> None:
        net.layer1.conv2.weight[[2, 9]] += 0.1  # type: ignore[union-attr, index, operator]

    found = only(digits.found(changed(digits, edit)))
    assert found.channels == (2, 9) and "channels 2, 9 of 32" in found.sentence.lower()


def test_step_of_training_is_told_from_a_new_initialisation(digits: Case) -> None:
    model = copy.deepcopy(digits.model)
    optimiser = torch.optim.SGD(model.parameters(), 0.01)
    model.train()
    nn.functional.cross_entropy(model(digits.pictures[:8]), torch.arange(8)).backward()
    optimiser.step()
    model.eval()
    found = only(digits.found(model))
    assert found.rule == "baseline" and "moved by" in found.sentence and "re-initialised" not in found.sentence
    assert "12 more layers" in found.sentence  # of 15 with weights


def test_setting_that_was_changed_is_named(digits: Case) -> None:
    def change(net: nn.Module) -> None:
        net.layer1.relu1 = nn.GELU()  # type: ignore[union-attr]

    found = only(digits.found(changed(digits, change)))
    assert found.layer == "layer1.relu1" and "GELU(approximate='none') and was ReLU()" in found.sentence
    assert found.excess > 1


def test_change_of_code_alone_is_told_at_its_first_layer(digits: Case) -> None:
    model = copy.deepcopy(digits.model)
    plain = model.layer1.forward
    model.layer2.forward = lambda values: type(model.layer2).forward(model.layer2, values * 1.01)  # type: ignore
    found = only(digits.found(model))
    assert plain is not None and found.layer == "layer2.conv1" and found.severity == "error"
    assert "the weights and the pictures are the baseline's" in found.sentence


def test_answers_in_another_order_without_any_weight(digits: Case) -> None:
    class Turned(type(digits.model)):  # type: ignore[misc]
        def forward(self, pictures: Tensor) -> Tensor:
            return super().forward(pictures)[:, [1, 0, *range(2, 10)]]  # type: ignore[no-any-return]

    model = copy.deepcopy(digits.model)
    model.__class__ = Turned
    found = only(digits.found(model))
    assert found.rule == "label-order" and found.channels == (0, 1) and "the weights are as they were" in found.sentence


def test_other_pictures_are_compared_by_distribution_only(digits: Case) -> None:
    others = normalise(trained("bn").plain[100:140], digits.mean, digits.std)
    patient = digits.patient(pictures=others)
    assert all(each.severity == "note" for each in rule(patient))
    assert "only distributions could be compared" in str(patient.found["baseline: looked at"])
    noise = normalise(torch.rand(40, 3, 32, 32), digits.mean, digits.std)
    found = only(digits.found(pictures=noise))
    assert found.severity == "warning" and "only distributions" in found.sentence
    torch.manual_seed(0)
    model = changed(digits, lambda net: net.layer1.conv1.reset_parameters())  # type: ignore[union-attr, operator]
    assert any("layer1.conv1 looks re-initialised" in each.sentence for each in digits.found(model, others))


def test_same_pictures_in_another_order_or_fewer_of_them(digits: Case) -> None:
    assert digits.found(pictures=digits.pictures[[5, 3, 1, 0, 9, 8, 7, 6, 4, 2]]) == []
    more = torch.cat([digits.pictures, normalise(trained("bn").plain[200:208], digits.mean, digits.std)])
    patient = digits.patient(pictures=more)
    assert list(rule(patient)) == [] and "8 are not among" in str(patient.found["baseline: looked at"])


def test_colours_and_size_are_told(digits: Case) -> None:
    bgr = only(digits.found(pictures=digits.pictures.flip(1)))
    assert bgr.rule == "colour-order" and bgr.preparation == "bgr" and "[2, 1, 0]" in bgr.advice
    small = only(digits.found(pictures=nn.functional.interpolate(digits.pictures, size=28, mode="bilinear")))
    assert small.rule == "preprocessing" and "32 × 32" in small.sentence and small.preparation == "32x32"


def test_other_rules_findings_are_not_doubled(digits: Case) -> None:
    patient = digits.patient(pictures=digits.plain)
    patient.found["findings"] = [Finding("preprocessing", "error", "Told by a BatchNorm.")]
    assert list(rule(patient)) == []
    assert len(digits.found(pictures=digits.plain)) == 1


def test_through_check(digits: Case) -> None:
    off = {name: "off" for name in RULES if name not in ("baseline", "preprocessing", "precision", "label-order")}
    found = hs.check(digits.model, digits.pictures, baseline=digits.path, classes=digits.classes, rules=off)
    assert not found.exceeds("warning")
    assert next(each for each in found.checked if each.rule == "baseline").status == "ok"
    model = changed(digits, lambda net: net.to(torch.bfloat16).float())
    found = hs.check(model, digits.pictures, baseline=digits.path, classes=digits.classes, rules=off)
    assert any("rounded to bfloat16" in each.sentence for each in found.of("precision"))
    assert next(each for each in found.checked if each.rule == "precision").status == "found"
    none = hs.check(digits.model, digits.pictures, rules=off)
    assert "No baseline was given" in next(each for each in none.checked if each.rule == "baseline").why


# --- the numbers


def test_differences_and_tolerances_are_those_of_plain_numpy(digits: Case) -> None:
    known = hs.Baseline.read(digits.path)
    assert known.reference is not None
    model = changed(digits, lambda net: net.layer2.conv1.weight.mul_(1.001))  # type: ignore[union-attr, operator]
    kept: dict[str, Tensor] = {}
    handles = [
        net.register_forward_hook(lambda module, args, out, key=key: kept.__setitem__(key, out.detach().clone()))
        for key, net in (("then", digits.model.layer2.conv1), ("now", model.layer2.conv1))  # type: ignore
    ]
    with torch.no_grad():
        digits.model(digits.pictures)
        model(digits.pictures)
    for handle in handles:
        handle.remove()
    then, now = (kept[key].double().flatten(1).numpy() for key in ("then", "now"))
    index = known.layers.index(("layer2.conv1", 0))
    patient = digits.patient(model)
    found = deviations_of(patient, look_at_all(patient), known, np.arange(COUNT))
    by_hand = [  # statistic: now, then, its magnitude
        (now.mean(1), then.mean(1), np.sqrt((then**2).mean(1)).max()),
        (now.std(1), then.std(1), then.std(1).max()),
        (now.max(1), then.max(1), np.abs(then.max(1)).max()),
    ]
    spread = known.reference.spread[index]
    worst = max(
        (np.abs(a - b) / max(1e-4 * size, 4 * spread[place])).max()
        for (a, b, size), place in zip(by_hand, (0, 1, 3), strict=True)
    )
    assert found.excess[index] == pytest.approx(worst, rel=1e-2) and worst > 1
    assert found.first == index


def test_spread_of_a_model_that_differs_each_time_is_its_tolerance(tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 3)
            self.calls = 0

        def forward(self, pictures: Tensor) -> Tensor:
            self.calls += 1
            noise = 1 + 1e-3 * np.sin(self.calls)
            return self.fc(self.act(self.conv(pictures) * noise).mean((2, 3)))

    torch.manual_seed(0)
    model, pictures = Noisy().eval(), torch.randn(8, 3, 12, 12)
    made = make_baseline(read_patient(model, pictures))
    assert made.reference is not None
    index = made.layers.index(("act", 0))
    assert made.reference.spread[index][1] > 1e-4 * made.numbers.profiles[index][:, 1].max()
    patient = read_patient(model, pictures)
    patient.found["baseline"] = made
    assert list(rule(patient)) == []
    with torch.no_grad():
        model.conv.weight.mul_(1.2)
    assert only(list(rule(_with(model, pictures, made)))).layer == "conv"


def _with(model: nn.Module, pictures: Tensor, made: Any) -> Patient:
    patient = read_patient(model, pictures)
    patient.found["baseline"] = made
    return patient


def test_mean_near_zero_has_the_tolerance_of_its_values(digits: Case) -> None:
    known = hs.Baseline.read(digits.path)
    limits = tolerances(digits.patient(), known)
    for index, values in enumerate(known.numbers.profiles):
        size = np.sqrt(values[:, 0].astype(float) ** 2 + values[:, 1].astype(float) ** 2).max()
        assert limits[index, 0] >= 1e-4 * size * 0.999


@pytest.mark.parametrize("kind", ["weight", "rows", "order"])
def test_marks_of_one_tensor(kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 16, 3)
    before = next(weights_of(layer))
    stored, rows, sample = before.stored(), before.rows, before.sample
    assert change_of(next(weights_of(layer)), stored, rows, sample) is None
    half = copy.deepcopy(layer).to(torch.bfloat16)
    found = change_of(next(weights_of(half)), stored, rows, sample)
    assert found is not None and found.how == "bfloat16"
    with torch.no_grad():
        if kind == "weight":
            layer.reset_parameters()
        elif kind == "rows":
            layer.weight[3] += 1
        else:
            layer.weight.copy_(layer.weight.roll(1, 0).clone())
    found = change_of(next(weights_of(layer)), stored, rows, sample)
    assert found is not None
    assert found.how == {"weight": "replaced", "rows": "rows", "order": "order"}[kind]
    if kind == "order":
        assert found.order == tuple((np.arange(16) - 1) % 16)
    if kind == "rows":
        assert found.rows == (3,)


def test_transposed_convolution_has_its_output_channels_as_rows() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3)
    weight = next(weights_of(layer))
    assert weight.axis == 1 and len(weight.rows) == 6
    before, rows, sample = weight.stored(), weight.rows, weight.sample
    with torch.no_grad():
        layer.weight[:, 2] = 0
    found = change_of(next(weights_of(layer)), before, rows, sample)
    assert found is not None and (found.how, found.rows, found.among) == ("zeroed", (2,), 6)


def test_equal_rows_keep_their_place() -> None:
    assert match_rows(np.array([7, 5, 5, 9]), np.array([9, 5, 5, 7])) == (3, 1, 2, 0)


def test_proposal_gives_back_the_baseline_s_values(digits: Case) -> None:
    known = hs.Baseline.read(digits.path)
    assert known.reference is not None
    given = compare_pictures(pictures_of([normalise(digits.plain, *IMAGENET)]), known.reference)
    assert given.how == "numbers"
    back = (normalise(digits.plain, *IMAGENET) - torch.tensor(given.offset)[:, None, None]) / torch.tensor(given.gain)[
        :, None, None
    ]
    assert torch.allclose(back.float(), digits.pictures, atol=1e-4)
    assert proposal(given, *IMAGENET)[1].startswith("normalise pixels of 0..1 by mean 0.31, 0.28, 0.24")


# --- files


def test_it_is_a_baseline_that_scores(digits: Case) -> None:
    known = hs.Baseline.read(digits.path)
    scores = known.score(digits.model, digits.pictures[:8], own=list(range(8)))
    assert scores.inside.all() and np.isfinite(scores.layers_p).all()
    assert known.reference is not None
    told = known.reference.told
    assert told.size == (3, 32, 32) and told.repeats == 7 and told.threads[0] == 1
    assert np.allclose(told.mean, digits.pictures.double().mean((0, 2, 3)))
    assert np.allclose(told.std, digits.pictures.double().std((0, 2, 3), correction=0))
    with torch.no_grad():
        answers = digits.model(digits.pictures)
    assert np.allclose(known.reference.answers, answers.mean(0), atol=1e-5)
    assert (known.reference.first == answers.argmax(1).numpy()).all()
    fields = json.loads(digits.path.read_text())
    assert fields["format"] == "hookscope baseline 2" and "/" not in json.dumps(fields["reference"])


def test_baseline_without_reference_is_written_as_before(digits: Case, tmp_path: Path) -> None:
    plain = hs.Baseline.fit(digits.model, [digits.pictures])
    plain.save(tmp_path / "plain.json")
    fields = json.loads((tmp_path / "plain.json").read_text())
    assert fields["format"] == "hookscope baseline 1" and "reference" not in fields
    again = hs.Baseline.read(tmp_path / "plain.json")
    assert again.reference is None
    patient = digits.patient()
    patient.found["baseline"] = again
    assert all(each.severity == "note" for each in rule(patient))
    assert "pictures alone" in str(patient.found["baseline: looked at"])


def test_writing_again_removes_the_numbers_of_before(digits: Case, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    write_baseline(digits.patient(pictures=digits.pictures[:8]), path)
    first = {each.name for each in tmp_path.iterdir()}
    write_baseline(digits.patient(pictures=digits.pictures[8:16]), path)
    second = {each.name for each in tmp_path.iterdir()}
    assert len(first) == len(second) == 2 and first & second == {"b.json"}
    (tmp_path / "copy.json").write_bytes(path.read_bytes())
    write_baseline(digits.patient(pictures=digits.pictures[:8]), path)
    assert len(list(tmp_path.iterdir())) == 4  # the copy still needs its own
    hs.Baseline.read(tmp_path / "copy.json")


def test_bad_files_are_sentences(digits: Case, tmp_path: Path) -> None:
    patient = digits.patient()
    with pytest.raises(HooksError, match="cannot be read"):
        read_baseline_for(patient, tmp_path / "none.json")
    newer = tmp_path / "newer.json"
    newer.write_text(digits.path.read_text().replace("hookscope baseline 2", "hookscope baseline 9"))
    with pytest.raises(HooksError, match=r"another version \(hookscope baseline 9\)"):
        read_baseline_for(patient, newer)
    broken = tmp_path / "broken.json"
    broken.write_text(digits.path.read_text()[:-100])
    with pytest.raises(HooksError, match="damaged"):
        read_baseline_for(patient, broken)
    alone = tmp_path / "alone.json"
    alone.write_text(digits.path.read_text())
    with pytest.raises(HooksError, match="beside it, and that cannot be read"):
        read_baseline_for(patient, alone)
    with pytest.raises(HooksError, match="cannot be written"):
        write_baseline(digits.patient(pictures=digits.pictures[:8]), tmp_path / "no" / "such" / "b.json")
    with pytest.raises(HooksError, match="not of type int"):
        read_baseline_for(patient, 3)
    with pytest.raises(HooksError, match="A baseline of 4 pictures"):
        write_baseline(digits.patient(pictures=digits.pictures[:4]), tmp_path / "few.json")
    fields = json.loads(digits.path.read_text())
    for field, value in (("kinds", []), ("pictures", []), ("size", [3, 32]), ("channels", [9])):
        told = copy.deepcopy(fields)
        told["reference"]["fields"][field] = value
        (tmp_path / fields["file"]).write_bytes(digits.path.with_name(fields["file"]).read_bytes())
        (tmp_path / "odd.json").write_text(json.dumps(told))
        with pytest.raises(HooksError, match="damaged"):
            hs.Baseline.read(tmp_path / "odd.json")


def test_another_architecture_is_refused_and_other_weights_are_not(digits: Case) -> None:
    with pytest.raises(HooksError, match="of another model: it knows layer"):
        hs.check(trained("plain").model, digits.pictures, baseline=digits.path)
    wider = copy.deepcopy(digits.model)
    wider.fc = nn.Linear(64, 12)
    with pytest.raises(HooksError, match=r"fc\.weight is 10 × 64 there and 12 × 64 here"):
        read_baseline_for(digits.patient(wider), digits.path)
    more = copy.deepcopy(digits.model)
    more.extra = nn.Linear(2, 2)
    with pytest.raises(HooksError, match=r"extra\.weight, which it does not know"):
        read_baseline_for(digits.patient(more), digits.path)
    with pytest.raises(CannotTell, match="No baseline was given"):
        list(rule(read_patient(digits.model, digits.pictures)))


def test_threads_are_put_back(digits: Case) -> None:
    before = torch.get_num_threads()
    with assert_untouched(digits.model):
        make_baseline(digits.patient(pictures=digits.pictures[:8]))
    assert torch.get_num_threads() == before


# --- no false alarms


@pytest.mark.parametrize("kind", ["bn", "plain"])
def test_no_alarm_in_ten_repeats(kind: str, tmp_path: Path) -> None:
    _repeat(case_of(kind, tmp_path), 10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bn", "plain", "vit", "tanh", "lite0"])
def test_no_alarm_in_a_hundred_repeats(kind: str, tmp_path: Path) -> None:
    _repeat(case_of(kind, tmp_path), 100)


def _repeat(case: Case, times: int) -> None:
    before = torch.get_num_threads()
    try:
        for number in range(times):
            torch.set_num_threads(1 + number % 2)
            assert case.found() == []
    finally:
        torch.set_num_threads(before)


# --- scoring where pictures come for ever


def test_bound_baseline_scores_as_the_sweep_does(digits: Case) -> None:
    usual = hs.Baseline.load(digits.path, digits.model)
    batch = normalise(trained("bn").plain[100:116], digits.mean, digits.std)
    with assert_untouched(digits.model):
        first, second = usual.score(batch), usual.score(batch)
    names = list(dict.fromkeys(layer for layer, _ in first.layers))
    swept = hs.sweep(digits.model, [batch], [hs.profiles(names), hs.answers(), hs.features("avgpool")])
    oracle = replace(hs.Baseline.read(digits.path), numbers=usual.numbers.only(first.layers)).score_sweep(swept)
    assert first.layers == second.layers == oracle.layers and 0 < len(first.layers) < len(usual.layers)
    for name in ("beyond", "which", "distance", "energy", "layers_p"):
        assert np.array_equal(getattr(first, name), getattr(oracle, name)), name
        assert np.array_equal(getattr(second, name), getattr(oracle, name)), name
    place, statistic, far = first.parts(3) or (("", 0), "", 0.0)
    index = int(first.beyond[3].argmax())
    assert place == first.layers[index] and far == first.beyond[3, index]
    assert statistic == ("mean", "std", "zeros", "max")[first.which[3, index]]
    everything = hs.Baseline.read(digits.path).of(digits.model, "*").score(batch)
    assert everything.layers == usual.layers
    assert np.array_equal(everything.beyond, hs.Baseline.read(digits.path).score(digits.model, batch).beyond)


def test_channels_last_pictures_score_alike(digits: Case) -> None:
    usual = hs.Baseline.load(digits.path, digits.model)
    batch = digits.pictures[:8].contiguous()
    plain, last = usual.score(batch), usual.score(batch.to(memory_format=torch.channels_last))
    assert np.allclose(plain.beyond, last.beyond, rtol=1e-3, atol=1e-3)


def test_other_weights_are_refused_at_the_next_batch(digits: Case) -> None:
    model = copy.deepcopy(digits.model)
    usual = hs.Baseline.load(digits.path, model)
    usual.score(digits.pictures[:8])
    with torch.no_grad():
        model.fc.weight[0, 0] += 1  # type: ignore[union-attr, operator]
    with pytest.raises(HooksError, match="other weights"):
        usual.score(digits.pictures[:8])
    with pytest.raises(HooksError, match="other weights"):
        hs.Baseline.load(digits.path).of(model)
    with pytest.raises(HooksError, match="has no model"):
        hs.Baseline.load(digits.path).score(digits.pictures[:8])
    with pytest.raises(HooksError, match="no picture to score"):
        hs.Baseline.load(digits.path).score(digits.model)


def test_mark_changes_with_what_a_training_step_writes(digits: Case) -> None:
    model = copy.deepcopy(digits.model)
    before = mark_of(model)
    with torch.no_grad():
        model(digits.pictures[:8])
    assert mark_of(model) == before
    model.train()
    with torch.no_grad():
        model(digits.pictures[:8])
    assert mark_of(model) != before


def test_two_threads_score_as_one_after_the_other(digits: Case) -> None:
    usual = hs.Baseline.load(digits.path, digits.model)
    plain = trained("bn").plain
    batches = [normalise(plain[at : at + 8], digits.mean, digits.std) for at in range(0, 160, 8)]
    alone = [usual.score(batch).beyond for batch in batches]
    fresh = hs.Baseline.load(digits.path, digits.model)  # whose first batch is not over when the second comes
    together: dict[int, np.ndarray] = {}

    def work(numbers: range) -> None:
        for number in numbers:
            together[number] = fresh.score(batches[number]).beyond

    threads = [threading.Thread(target=work, args=(range(start, len(batches), 2),)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == len(batches)
    assert all(np.array_equal(together[number], own) for number, own in enumerate(alone))


def test_chosen_layers_are_the_last_of_their_shape() -> None:
    shapes = {("conv", 0): (64, 9, 9), ("relu", 0): (64, 9, 9), ("conv2", 0): (8, 9, 9), ("fc", 0): (10,)}
    assert choose_places(list(shapes), shapes) == (("conv2", 0), ("fc", 0))
    large = {("conv", 0): (64, 9, 9), ("relu", 0): (64, 9, 9)}
    assert choose_places(list(large), large) == (("relu", 0),)  # one at least
