"""Whether weights are told to be trained or as they were made, and which keys a load has left out."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doctor_models import LITE, WAYS, default_model, lite, normalise, photographs, settle, trained, unsettled
from healthy_models import HEALTHY
from helpers import assert_untouched
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hookscope.dashboard.checking.known import known_of, told_otherwise
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import load
from hookscope.dashboard.sources.presets import plain
from hookscope.hooks.doctor.initial import all_initial, judge_layers, look_at
from hookscope.hooks.doctor.loading import partly_initialised, weights_not_loaded
from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.results.findings import Finding, Known

MORE = (  # beside `HEALTHY`, as they are made
    "torchvision:resnext50_32x4d",
    "torchvision:inception_v3",
    "torchvision:convnext_tiny",
    "torchvision:mobilenet_v2",
    "torchvision:efficientnet_v2_s",
    "torchvision:regnet_x_400mf",
    "torchvision:deeplabv3_resnet50",
    "torchvision:ssdlite320_mobilenet_v3_large",
    "torchvision:vgg11_bn",
    "timm:gmlp_s16_224",
    "timm:efficientformer_l1",
    "timm:nfnet_f0",
    "timm:poolformer_s12",
    "timm:coat_tiny",
    "timm:levit_128s",
    "timm:pit_ti_224",
    "timm:edgenext_xx_small",
    "timm:swinv2_tiny_window8_256",
    "timm:repvgg_a0",
    "timm:mobilenetv4_conv_small",
)


def patient(model: nn.Module, pictures: Tensor | None = None, known: Known | None = None) -> Patient:
    """A model and two pictures, as it is given them."""
    pictures = normalise(photographs(2), *LITE) if pictures is None else pictures[:2]
    return Patient(model, [pictures], np.full(len(pictures), -1), known or Known())


def found(model: nn.Module, pictures: Tensor | None = None, known: Known | None = None) -> list[Finding]:
    with assert_untouched(model):
        return list(partly_initialised(patient(model, pictures, known)))


# --- single tensors


@pytest.mark.parametrize("shape", [(64, 32, 3, 3), (256, 128), (128, 1, 5, 5), (32, 64, 1, 1), (1000, 1280)])
@pytest.mark.parametrize(
    "init",
    [
        lambda weight: nn.init.kaiming_uniform_(weight, a=5**0.5),
        lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"),
        nn.init.xavier_uniform_,
        nn.init.xavier_normal_,
        lambda weight: nn.init.trunc_normal_(weight, std=0.02),
        lambda weight: nn.init.trunc_normal_(weight, std=1.0, a=-2.0, b=2.0),
        lambda weight: nn.init.normal_(weight, 0, 0.01),
        lambda weight: nn.init.uniform_(weight, -0.3, 0.3),
        nn.init.orthogonal_,
    ],
)
def test_draws_of_every_usual_initialisation_are_known(
    init: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    looks = [look_at(init(torch.empty(shape))) for _ in range(4)]
    assert [look.verdict for look in looks] == ["initial"] * 4, looks


def test_the_distributions_have_the_moments_and_ends_that_they_are_said_to_have() -> None:
    from scipy import stats

    from hookscope.hooks.doctor.initial import FAMILIES

    oracles = [stats.uniform(-(3**0.5), 2 * 3**0.5), None, stats.norm()]
    cut = stats.truncnorm(-2, 2)
    oracles[1] = stats.truncnorm(-2, 2, scale=1 / cut.std())
    values = np.linspace(-2.5, 2.5, 41)
    for family, oracle in zip(FAMILIES, oracles, strict=True):
        assert oracle.std() == pytest.approx(1)
        assert family.fourth == pytest.approx(float(oracle.moment(4)), abs=1e-6)
        assert family.end == pytest.approx(float(oracle.support()[1]))
        assert np.allclose(family.below(torch.from_numpy(values)).numpy(), oracle.cdf(values), atol=1e-6)


def test_draws_that_something_was_learnt_on_top_of_are_no_draws() -> None:
    """One direction, one filter, one input channel, or a smooth kernel is enough."""
    torch.manual_seed(0)
    made = nn.init.kaiming_normal_(torch.empty(64, 32, 3, 3))
    direction = made + 0.3 * made.std() * torch.randn(64, 1, 1, 1) * torch.randn(1, 32, 3, 3)
    filters, channels, kernel, smooth = (made.clone() for _ in range(4))
    filters[:4] *= 3
    channels[:, 3] *= 3
    kernel[:, :, 1, 1] *= 1.5
    smooth[..., 1:] += 0.3 * made[..., :-1]
    for name, changed in [("rows", filters), ("columns", channels), ("places", kernel), ("neighbours", smooth)]:
        look = look_at(changed)
        worst = max(look.tests, key=lambda test: look.tests[test])
        assert look.verdict == "trained" and worst.startswith(name), (name, look.tests)
    assert look_at(direction).verdict == "trained"
    assert look_at(made).verdict == "initial"


def test_what_nobody_draws_or_trains_says_nothing() -> None:
    place = torch.arange(200)[:, None] / 10000 ** (torch.arange(64) / 64)
    fixed: dict[str, Tensor] = {
        "zeros": torch.zeros(64, 64),
        "layer scale": torch.full((300,), 1e-5),
        "identity": torch.eye(64),
        "dirac": nn.init.dirac_(torch.empty(32, 32, 3, 3)),
        "blur": torch.full((32, 1, 3, 3), 1 / 9),
        "bilinear": torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).expand(32, 1, 3, 3) / 16,
    }
    assert {name: look_at(tensor).verdict for name, tensor in fixed.items()} == dict.fromkeys(fixed, "fixed")
    assert look_at(place.sin()).verdict != "initial"
    assert look_at(torch.randn(10, 10)).verdict == "unknown"  # too small to tell
    assert look_at(torch.zeros(0, 4)).verdict == look_at(torch.arange(999)).verdict == "unknown"


# --- whole models


@pytest.mark.parametrize("number", range(3))
def test_every_weight_of_the_trained_models_is_told_to_be_trained(number: int) -> None:
    model = lite(number)
    assert not all_initial(model)
    assert {judged.verdict for judged in judge_layers(model)} == {"trained"}
    assert found(model) == []


@pytest.mark.parametrize("kind", WAYS)
def test_small_trained_models_have_no_layer_that_is_called_initial(kind: str) -> None:
    net = trained(kind)
    assert net.accuracy > 0.9
    assert not all_initial(net.model)
    assert found(net.model, net.pictures) == []


@pytest.mark.parametrize("spec", (*HEALTHY, *MORE))
def test_models_with_random_weights_are_known_from_them(spec: str) -> None:
    model = unsettled(spec)
    assert all_initial(model), [judged.name for judged in judge_layers(model) if judged.verdict == "trained"]


def test_batch_norms_that_have_seen_pictures_do_not_make_a_model_trained() -> None:
    model = settle(unsettled("torchvision:resnet18"), torch.randn(4, 3, 64, 64))
    assert all_initial(model)
    assert all_initial(unsettled("torchvision:googlenet", init_weights=False))
    with torch.no_grad():
        model.get_submodule("fc").weight.copy_(default_model().get_submodule("classifier").weight[:, :512])  # type: ignore[union-attr, operator, index]
    assert not all_initial(model)


def test_trained_tables_and_frozen_filters_in_a_random_model_say_nothing() -> None:
    model = unsettled("torchvision:mobilenet_v3_small")
    model.register_module("places", nn.Embedding(64, 32))
    place = torch.arange(64)[:, None] / 10000 ** (torch.arange(32) / 32)
    with torch.no_grad():
        model.get_submodule("places").weight.copy_(place.sin())  # type: ignore[operator, union-attr]
    assert all_initial(model)


def test_biases_that_have_moved_say_that_something_was_trained() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))
    assert all_initial(net)
    with torch.no_grad():
        net[2].bias.normal_(0, 0.3)  # type: ignore[union-attr, operator]
    assert not all_initial(net)


# --- layers beside trained ones


def made_anew(model: nn.Module, *names: str) -> nn.Module:
    """The same with these modules, and all that is inside them, as PyTorch makes them."""
    torch.manual_seed(3)
    for name in names:
        for part in model.get_submodule(name).modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
    return model


@pytest.mark.parametrize(
    "number, names, layer",
    [
        (0, ("blocks.3.1.conv_pw",), "blocks.3.1.conv_pw"),
        (0, ("blocks.1.0.conv_dw",), "blocks.1.0.conv_dw"),
        (1, ("conv_stem",), "conv_stem"),
        (2, ("classifier",), "classifier"),
        (0, ("blocks.3.1.bn2",), "blocks.3.1.bn2"),
        (1, ("blocks.2.0.conv_pwl", "blocks.2.0.bn3"), "blocks.2.0.conv_pwl"),
        (2, ("blocks.5.1",), "blocks.5.1"),
        (0, ("blocks.4",), "blocks.4"),
    ],
)
def test_a_layer_that_was_left_as_it_was_made_is_named(number: int, names: tuple[str, ...], layer: str) -> None:
    (finding,) = found(made_anew(lite(number), *names))
    assert (finding.rule, finding.severity, finding.layer) == ("partly-initialised", "error", layer)
    assert layer in finding.sentence and finding.evidence is not None and finding.why and finding.advice
    assert all(name in finding.sentence for name in names)


@pytest.mark.parametrize("kind", WAYS)
def test_every_layer_of_the_small_models_is_named_when_it_is_made_anew(kind: str) -> None:
    kinds = nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.LayerNorm
    names = [name for name, module in trained(kind).model.named_modules() if isinstance(module, kinds)]
    assert len(names) >= 4
    for name in names:
        net = trained(kind)
        layers = [finding.layer for finding in found(made_anew(net.model, name), net.pictures)]
        assert layers == [name]


@pytest.mark.parametrize(
    "init",
    [
        nn.init.kaiming_normal_,
        nn.init.xavier_uniform_,
        lambda weight: nn.init.normal_(weight, 0, 0.01),
        lambda weight: nn.init.trunc_normal_(weight, std=0.02),
        nn.init.orthogonal_,
    ],
)
@pytest.mark.parametrize("kind", ["default", *WAYS])
def test_a_head_that_was_made_anew_is_named_however_it_was_made(kind: str, init: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(1)
    model, pictures = (default_model(), None) if kind == "default" else (trained(kind).model, trained(kind).pictures)
    name, head = [each for each in model.named_modules() if isinstance(each[1], nn.Linear)][-1]
    init(head.weight)  # type: ignore[arg-type]
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    assert [finding.layer for finding in found(model, pictures)] == [name]


def test_a_batch_norm_without_its_statistics_or_without_its_scale_is_named() -> None:
    model = default_model()
    model.get_submodule("blocks.2.0.bn1").reset_running_stats()  # type: ignore[operator]
    (finding,) = found(model)
    assert finding.layer == "blocks.2.0.bn1" and "stored mean 0 and stored variance 1" in finding.sentence
    model = default_model()
    norm = model.get_submodule("blocks.2.0.bn1")
    nn.init.ones_(norm.weight)  # type: ignore[arg-type]
    nn.init.zeros_(norm.bias)  # type: ignore[arg-type]
    (finding,) = found(model)
    assert finding.layer == "blocks.2.0.bn1" and "weight 1 and bias 0" in finding.sentence


def test_many_layers_are_one_finding() -> None:
    names = [f"blocks.{stage}.0.conv_pwl" for stage in range(1, 7)] + [f"blocks.{n}.1.conv_pw" for n in range(1, 6)]
    (finding,) = found(made_anew(default_model(), *names))
    assert finding.sentence.startswith("11 layers are as they were made") and finding.layer == "blocks.1.0.conv_pwl"


def test_weights_that_are_all_zero_are_named_beside_trained_ones() -> None:
    model = default_model()
    for each in model.get_submodule("classifier").parameters():
        nn.init.zeros_(each)
    (finding,) = found(model)
    assert (finding.severity, finding.layer) == ("error", "classifier") and "are all 0" in finding.sentence
    model = default_model()
    nn.init.zeros_(model.get_submodule("blocks.3.1.conv_pwl").weight)  # type: ignore[arg-type]
    assert [(each.severity, each.layer) for each in found(model)] == [("warning", "blocks.3.1.conv_pwl")]


def test_weights_that_are_parametrised_are_judged_as_others_are() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 300, 3)),
        parametrizations.spectral_norm(nn.Conv2d(300, 64, 3)),
        nn.Flatten(),
        parametrizations.orthogonal(nn.Linear(64, 64)),
    )
    assert all_initial(model)
    assert [judged.name for judged in judge_layers(model)] == ["0", "1", "3"]


def test_what_is_known_otherwise_is_not_told_again() -> None:
    """A head that was left random on purpose, a frozen random layer, a layer that never runs."""
    model = made_anew(default_model(), "classifier")
    assert found(model, known=Known(random_part="classifier")) == []
    model = made_anew(default_model(), "conv_stem")
    model.get_submodule("conv_stem").weight.requires_grad = False  # type: ignore[union-attr]
    assert [finding.severity for finding in found(model)] == ["note"]
    model = default_model()
    model.register_module("spare", nn.Conv2d(64, 64, 3))
    assert found(model) == []


def test_a_model_that_was_trained_too_little_or_is_too_small_cannot_be_told() -> None:
    small = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    small(torch.zeros(1, 3, 4, 4))
    with pytest.raises(CannotTell, match="too small"):
        found(small, torch.zeros(2, 3, 4, 4))


def test_random_weights_that_are_said_to_be_loaded_are_an_error() -> None:
    model = unsettled("torchvision:mobilenet_v3_small")
    (finding,) = found(model, known=Known(random=False))
    assert finding.severity == "error" and finding.about == "model"


# --- what a load has left out


def told(known: Known, model: nn.Module | None = None) -> list[Finding]:
    return list(weights_not_loaded(patient(model or default_model(), known=known)))


def test_missing_and_unexpected_keys_are_told_with_their_numbers_and_layers() -> None:
    missing = ("blocks.3.1.bn2.running_mean", "blocks.3.1.bn2.running_var", "classifier.bias")
    lacking, besides = told(Known(random=False, missing=missing, unexpected=("decoder.weight", "decoder.bias")))
    assert (lacking.severity, lacking.layer, lacking.value) == ("warning", "blocks.3.1.bn2", 3)
    assert lacking.sentence.startswith("3 of the model's weights are not in the file")
    assert (besides.severity, besides.value) == ("warning", 2) and "decoder.weight, decoder.bias" in besides.sentence


def test_counters_and_branches_for_training_are_no_warning() -> None:
    assert told(Known(random=False, missing=("bn1.num_batches_tracked",))) == []
    (finding,) = told(Known(random=False, unexpected=("aux_logits.fc.weight",)))
    assert finding.severity == "note"


def test_random_weights_are_a_note_and_an_unknown_load_says_so() -> None:
    (finding,) = told(Known(random=True))
    assert finding.severity == "note" and finding.sentence.startswith("All weights are random")
    (finding,) = told(Known(), unsettled("torchvision:mobilenet_v3_small"))
    assert finding.severity == "note" and finding.sentence.startswith("No weight of the model looks trained")
    with pytest.raises(CannotTell, match="Nobody said"):
        told(Known())
    assert told(Known(random=False)) == []


# --- what the loader knows


FACTORY = """
import torch
from torch import nn

def net(classes=10):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(8, classes))

def half_eval():
    made = net().eval()
    made[3].train()
    return made

def settings():
    return net().eval(), {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": 64, "channel_order": "rgb"}
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with factories, from which the program was started."""
    (tmp_path / "handed_over.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def known(name: str, **options: Any) -> Known:
    spec = f"handed_over:{name}"
    return known_of(load(ModelOptions(spec, name, **options)))


def test_nobody_knows_whether_a_factorys_weights_are_random_unless_a_file_was_given(factory: Path) -> None:
    assert known("net").random is None and known("net").training == ()
    torch.manual_seed(1)
    handed_over = importlib.import_module("handed_over")
    torch.save(handed_over.net().state_dict(), factory / "whole.pt")
    assert known("net", weights=str(factory / "whole.pt")).random is False
    torch.save(handed_over.net(7).state_dict(), factory / "seven.pt")
    headless = known("net", weights=str(factory / "seven.pt"), allow_head=True)
    assert (headless.random, headless.random_part) == (False, "6")
    (finding,) = told(headless, handed_over.net())
    assert (finding.severity, finding.layer) == ("warning", "6")


def test_what_was_in_training_mode_although_the_model_was_not_is_kept(factory: Path) -> None:
    assert known("half_eval").training == ("3",)


def test_what_the_flags_change_of_a_models_own_preparation_is_kept(factory: Path) -> None:
    assert known("settings").own == "" and known("settings").size == (64, 64)
    changed = known("settings", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), input_size=(96, 96), channel_order="bgr")
    assert changed.own == "symmetric,rgb,64x64" and changed.mean == (0.0,) * 3
    one, other = (plain((8, 8), 8, "bilinear", (mean,) * 3, (1.0,) * 3).info for mean in (0.0, 0.123))
    assert told_otherwise(one, other) == "unit"
    assert told_otherwise(other, one) == ""  # no name for these numbers
    assert told_otherwise(None, one) == ""


def test_what_a_hugging_face_folder_lacks_is_known(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    torch.manual_seed(0)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 1.0})
    )
    tensors = load_file(tmp_path / "model.safetensors")
    gone = [name for name in tensors if name.startswith("classifier")]
    kept = {name: tensor for name, tensor in tensors.items() if name not in gone}
    save_file({**kept, "decoder.weight": torch.ones(2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = known_of(load(ModelOptions(f"hf:{tmp_path}", "folder")))
    assert found.random is False
    assert set(found.missing) == set(gone) and found.unexpected == ("decoder.weight",)
