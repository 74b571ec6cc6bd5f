"""Every kind of spec: what is loaded, with which preprocessing and names, and what is said when it cannot be."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from checkout import SOURCE
from PIL import Image
from safetensors.torch import save_file
from skimage import data
from torch import nn
from torchvision import models as tv
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from hookscope.dashboard.asking.sides import Preparation
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.settings.table import TABLE, Settings
from hookscope.dashboard.settings.values import BadValue, model_spec
from hookscope.dashboard.sources import build, checkpoints, fitting, preprocessing, presets, weights
from hookscope.dashboard.sources.building import FactoryError, ModelNotFound
from hookscope.dashboard.sources.classes import LabelsError, class_names, given_names
from hookscope.dashboard.sources.file_kinds import WeightsError
from hookscope.dashboard.sources.given import checked
from hookscope.dashboard.sources.load import DeviceError, choose_device, load
from hookscope.dashboard.sources.preprocessing import PreparationError
from hookscope.dashboard.sources.spec import DEFAULT_MODEL, is_own, title_of
from hookscope.hooks.errors import HooksError, ModelNotSupported

PICTURES = {name: Image.fromarray(getattr(data, name)()).convert("RGB") for name in ("coffee", "chelsea", "camera")}
PICTURES["tall"] = PICTURES["coffee"].resize((113, 907))
PICTURES["tiny"] = PICTURES["chelsea"].resize((31, 20))


@pytest.fixture(scope="module", autouse=True)
def no_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is downloaded in these tests, whether there is a network or not; and torch's cache is empty."""
    patch = pytest.MonkeyPatch()

    def refuse(url: str, path: Path, progress: Any) -> None:
        if not path.is_file():
            raise WeightsError("no network")

    patch.setattr(weights, "download", refuse)
    patch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    patch.setenv("HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
    yield
    patch.undo()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a factory in it."""
    name = f"own_{os.urandom(4).hex()}"
    (tmp_path / f"{name}.py").write_text(
        textwrap.dedent("""
            from torch import nn

            def net(classes=3):
                return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

            def with_settings():
                return net(2), dict(input_size=(48, 64), mean=[0.5], std=[0.25], classes=["no", "yes"], title="Mine")

            def nothing():
                return 7

            ready_made = net()
        """)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def spec(folder: Path, factory: str) -> str:
    return f"{next(folder.glob('own_*.py')).stem}:{factory}"


# --- preprocessing is the library's own


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("alexnet", "IMAGENET1K_V1"),
        ("resnet50", "IMAGENET1K_V2"),
        ("inception_v3", "IMAGENET1K_V1"),
        ("efficientnet_v2_l", "IMAGENET1K_V1"),
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
        ("vgg16", "IMAGENET1K_FEATURES"),
        ("fcn_resnet50", "COCO_WITH_VOC_LABELS_V1"),
    ],
)
@pytest.mark.parametrize("picture", ["coffee", "tall", "tiny"])
def test_torchvision_models_get_exactly_their_weights_own_tensor(name: str, version: str, picture: str) -> None:
    transforms = tv.get_model_weights(name)[version].transforms()
    prepared = presets.from_torchvision(transforms)(PICTURES[picture])
    assert torch.equal(prepared.tensor[0], transforms(PICTURES[picture]))


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet18", "vit_base_patch16_clip_224", "resnetv2_50x1_bit"]
)
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("picture", ["coffee", "tall"])
def test_timm_models_get_exactly_their_own_tensor(name: str, mode: str, picture: str) -> None:
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()) | {"crop_mode": mode}
    transform = timm.data.create_transform(**config, is_training=False)
    prepared = presets.from_timm(config)(PICTURES[picture])
    assert torch.equal(prepared.tensor[0], transform(PICTURES[picture]))


def test_the_default_model_is_prepared_as_it_was_trained() -> None:
    info = build.embedded("", ModelOptions(), lambda sentence: None).preprocessor.info
    assert (info.resize, info.crop, info.interpolation) == (256, (224, 224), "bicubic")
    assert info.mean == info.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("size", [(600, 400), (300, 451), (256, 256), (31, 20)])
def test_the_crop_is_where_the_pixels_come_from(size: tuple[int, int]) -> None:
    """A picture whose colour is its position: the corners of what the model got tell where they were cut."""
    width, height = size
    across, down = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    ramp = Image.fromarray((255 * np.stack([across, down, 0 * down], -1)).round().astype(np.uint8))
    prepared = presets.plain((224, 224), 256, "bilinear", (0.5,) * 3, (0.5,) * 3)(ramp)
    left, top, right, bottom = prepared.crop
    found_x, found_y = (prepared.pixels[112, 112, axis] / 255 * size[axis] for axis in (0, 1))
    assert (left + right) / 2 == pytest.approx(found_x, abs=max(1.5, width / 100))
    assert (top + bottom) / 2 == pytest.approx(found_y, abs=max(1.5, height / 100))
    seen = (int(prepared.pixels[112, -1, 0]) - int(prepared.pixels[112, 0, 0])) / 255 * width
    assert right - left == pytest.approx(seen, rel=0.04)


def test_the_tensor_is_the_pixels_normalised() -> None:
    prepared = presets.plain((3, 3), 3, "nearest", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(
        Image.new("RGB", (3, 3), (10, 128, 250))
    )
    assert prepared.pixels.reshape(-1, 3).tolist() == [[10, 128, 250]] * 9
    assert float(prepared.tensor[0, 0, 0, 0]) == pytest.approx((10 / 255 - 0.485) / 0.229, abs=1e-6)


def test_a_needle_of_a_picture_is_refused_before_it_fills_the_memory() -> None:
    needle = Image.new("RGB", (10, 60_000))
    with pytest.raises(PreparationError, match="too elongated"):
        presets.plain((224, 224), 256, "bilinear", (0.5,) * 3, (0.5,) * 3)(needle)
    segmenter = presets.from_torchvision(tv.get_model_weights("fcn_resnet50").DEFAULT.transforms())
    with pytest.raises(PreparationError, match="too elongated"):
        segmenter(Image.new("RGB", (10, 400)))


# --- specs


def test_the_default_model_has_one_name(tmp_path: Path) -> None:
    assert ModelOptions().spec == DEFAULT_MODEL and Settings(cache_dir=tmp_path).models == (DEFAULT_MODEL,)
    assert model_spec(DEFAULT_MODEL) == DEFAULT_MODEL and not is_own(DEFAULT_MODEL)
    assert build.build(ModelOptions(DEFAULT_MODEL), lambda sentence: None).title == title_of(DEFAULT_MODEL)
    for name in ("", "default"):
        with pytest.raises(ModelNotFound, match=f"'{name}' names no model"):
            build.build(ModelOptions(name), lambda sentence: None)
        with pytest.raises(BadValue):
            model_spec(name)
        assert title_of(name) == name


def test_torchvision_without_a_network_says_that_the_weights_are_random() -> None:
    model = load(ModelOptions("torchvision:resnet18"), "cpu")
    assert model.info.random
    assert model.info.weights.startswith(
        "Random weights: the pretrained ones could not be had (no network). Put the file at "
    )
    assert model.info.weights.endswith("resnet18-f37072fd.pth or start with --weights FILE.")
    assert model.info.classes == tuple(f"class {n}" for n in range(1000))  # ImageNet's names are not random weights'
    again = load(ModelOptions("torchvision:resnet18"), "cpu")
    assert again.info.fingerprint == model.info.fingerprint
    other = load(ModelOptions("torchvision:resnet18", seed=1), "cpu")
    assert other.info.fingerprint != model.info.fingerprint


def test_weights_in_torchs_cache_are_used_without_a_network() -> None:
    original = tv.resnet18(weights=None)
    path = weights.cache_path(tv.ResNet18_Weights.DEFAULT.url)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(original.state_dict(), path)
    try:
        source = build.build(ModelOptions("torchvision:resnet18"), lambda sentence: None)
    except FactoryError as error:  # torch checks nothing of a cached file today; should it, say so
        pytest.fail(str(error))
    finally:
        path.unlink()
    assert not source.random and source.weights == "torchvision's IMAGENET1K_V1."
    assert torch.equal(source.module.state_dict()["conv1.weight"], original.conv1.weight)


@pytest.mark.parametrize("name", ["vit_b_32", "googlenet", "squeezenet1_1", "mobilenet_v3_small"])
def test_random_weights_give_logits_that_tell_pictures_apart(name: str) -> None:
    model = load(ModelOptions(f"torchvision:{name}@random"), "cpu")
    with torch.no_grad():
        a, b = (model.module(model.prepare(PICTURES[each]).tensor) for each in ("coffee", "chelsea"))
    assert a.shape == (1, 1000) and a.any() and not torch.equal(a, b)
    assert model.info.weights == "Random weights: as asked for."


def test_a_segmenter_opens_with_its_own_classes() -> None:
    model = load(ModelOptions("torchvision:lraspp_mobilenet_v3_large@random"), "cpu")
    assert model.info.classes == tuple(f"class {n}" for n in range(21))
    assert model.info.preprocessing.crop == (0, 0) and model.info.preprocessing.resize == 520


def test_timm_without_a_network_says_so_and_knows_its_preprocessing() -> None:
    model = load(ModelOptions("timm:resnet18.a1_in1k"), "cpu")
    assert model.info.random and "could not be had (no network)" in model.info.weights
    assert "timm_resnet18.a1_in1k.safetensors" in model.info.weights
    config = timm.get_pretrained_cfg("resnet18.a1_in1k")
    assert model.info.preprocessing.interpolation == config.interpolation and len(model.info.classes) == 1000


def test_a_file_of_timms_is_used_without_a_network() -> None:
    original = timm.create_model("resnet10t", pretrained=False)
    name = timm.get_pretrained_cfg("resnet10t").tag
    path = weights.cache_path(f"timm_resnet10t.{name}.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(original.state_dict(), path)
    source = build.build(ModelOptions(f"timm:resnet10t.{name}"), lambda sentence: None)
    assert not source.random
    assert torch.equal(source.module.state_dict()["fc.weight"], original.state_dict()["fc.weight"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("torchvision:resnet51", "Did you mean torchvision:resnet50 or torchvision:resnet34 or torchvision:resnet18?"),
        ("torchvision:vgg14", "Did you mean torchvision:vgg13 or torchvision:vgg16 or torchvision:vgg11?"),
        ("torchvision:resnet81", "torchvision has no model 'resnet81'. Did you mean torchvision:resnet18"),
        ("torchvision:resnet18@V9", "has no weights 'V9', but IMAGENET1K_V1 and random."),
        ("torchvision:raft_small", "takes no single photograph"),
        ("timm:resnet81", "timm has no model 'resnet81'. Did you mean timm:resnet"),
        ("timm:resnet18.a9_in1k", "has no weights 'a9_in1k'. Did you mean timm:resnet18.a"),
        ("resnet18", "'resnet18' names no model"),
        ("no_such_package.module:net", "There is no module 'no_such_package' in "),
        ("json:no_such_name", "json has no 'no_such_name'"),
    ],
)
def test_an_unknown_model_names_what_is_near(text: str, sentence: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        build.build(ModelOptions(text), lambda sentence: None)
    assert sentence in str(caught.value)


def test_a_name_that_nothing_resembles_is_answered_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"has no 'zzz'\. There are net, nothing, with_settings, ready_made\.$"):
        load(ModelOptions(spec(folder, "zzz")), "cpu")


def test_a_factory_brings_its_own_settings(folder: Path) -> None:
    model = load(ModelOptions(spec(folder, "with_settings")), "cpu")
    info = model.info
    assert (info.title, info.classes, info.random) == ("Mine", ("no", "yes"), False)
    assert (info.preprocessing.crop, info.preprocessing.mean, info.preprocessing.std) == (
        (48, 64),
        (0.5,) * 3,
        (0.25,) * 3,
    )
    assert model.prepare(PICTURES["coffee"]).tensor.shape == (1, 3, 48, 64)


@pytest.mark.parametrize(("size", "shorter"), [((8, 8), 8), ((63, 32), 63), ((64, 64), 74), ((224, 224), 256)])
def test_how_pictures_get_their_size_is_said_where_it_is_assumed(
    folder: Path, size: tuple[int, int], shorter: int
) -> None:
    """Of a size that it has already a picture is given value by value, and small ones lose no border."""
    model = load(ModelOptions(spec(folder, "net"), input_size=size, mean=(0.0,), std=(1.0,)), "cpu")
    height, width = size
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    own = torch.from_numpy(values).permute(2, 0, 1)[None] / 255
    whole = model.prepare(Image.fromarray(values))
    assert torch.equal(whole.tensor, own) and whole.crop == (0, 0, width, height)
    other = model.prepare.otherwise(Preparation(interpolation="nearest"))(Image.fromarray(values))
    assert torch.equal(other.tensor, own)
    larger = Image.fromarray(np.repeat(np.repeat(values, 2, 0), 2, 1))
    resized = F.center_crop(F.resize(larger, shorter, antialias=True), list(size))
    assert torch.equal(model.prepare(larger).tensor[0], F.to_tensor(resized))
    assert model.info.notes[-1] == (
        f"Nobody said how its pictures get their size. Assumed: the shorter side resized to {shorter}, the centre of "
        f"{width} x {height} cut out; a picture of that size as it is."
    )
    told = load(ModelOptions(spec(folder, "net"), input_size=size, resize="crop"), "cpu")
    assert not any("Nobody said" in each for each in told.info.notes), "whoever says crop gets what the flag says"
    assert told.info.preprocessing.resize == math.ceil(max(size) / 0.875)


def test_flags_overrule_the_factory(folder: Path) -> None:
    options = ModelOptions(
        spec(folder, "net"),
        arguments='{"classes": 5}',
        input_size=(32, 32),
        mean=(0.1, 0.2, 0.3),
        interpolation="bicubic",
    )
    info = load(options, "cpu").info
    assert info.classes == tuple(f"class {n}" for n in range(5))
    assert (info.preprocessing.crop, info.preprocessing.mean) == ((32, 32), (0.1, 0.2, 0.3))
    assert info.preprocessing.std == preprocessing.IMAGENET_STD and info.preprocessing.interpolation == "bicubic"


def test_a_module_level_model_needs_no_factory(folder: Path) -> None:
    assert load(ModelOptions(spec(folder, "ready_made")), "cpu").info.title == "Sequential"


def test_a_factory_that_makes_no_module_or_takes_no_such_argument_is_told(folder: Path) -> None:
    with pytest.raises(FactoryError, match=r"returned int\. It has to return a torch.nn.Module"):
        load(ModelOptions(spec(folder, "nothing")), "cpu")
    with pytest.raises(FactoryError, match=r"failed: TypeError: .*unexpected keyword argument 'depth'") as caught:
        load(ModelOptions(spec(folder, "net"), arguments='{"depth": 3}'), "cpu")
    assert "Traceback" in caught.value.details


SIZE = "a size in pixels from 1 to 4096 is needed, such as 224 or 224x320 (height first)."
NUMBERS = "one number, or one per channel separated by commas, is needed, such as 0.485,0.456,0.406."
ABOVE_0 = "numbers above 0 are needed, because pixels are divided by them."
WAY = "one of crop, squash, pad and none is needed, or a length in pixels from 1 to 4096."
LIST = "a list of names is needed, one per output."
REFUSED = [
    *(
        (dict(input_size=value), SIZE)
        for value in ("big", -5, 0, True, 2.5, [], (3, 0), (1, 2, 3, 4), 5000, {}, "1x2x3")
    ),
    *((dict(input_size=value), SIZE) for value in ((4, 32, 32), (32, 10**30), (32, None), math.nan, math.inf)),
    *((dict(resize=value), WAY) for value in (0, "tall", -5, True, 1e9)),
    (dict(resize=(0, 3)), SIZE),
    (dict(channel_order="grb"), "one of rgb, bgr is needed."),
    *((dict(range=value), "1 is needed, for pixels scaled to 0..1, or 255.") for value in (0, 256, "all", 1.5)),
    *(
        (dict(inputs=value), "a dictionary is needed, from the names of forward's parameters to what they get.")
        for value in (3, [1, 2], {1: 2})
    ),
    *((dict(mean=value), NUMBERS) for value in (math.nan, [], (1,) * 17, "grey", True, [0, 0, math.inf])),
    *((dict(mean=value), NUMBERS) for value in ({"r": 1}, [None], ["0"] * 3, torch.zeros(2, 2), 10**400)),
    *((dict(std=value), ABOVE_0) for value in (0, 0.0, [0.5, 0, 0.5], -1, np.zeros(3))),
    *((dict(std=value), NUMBERS) for value in (math.nan, [0.5, math.nan, 0.5], False, "", b"1")),
    *(
        (dict(interpolation=value), "one of nearest, bilinear, bicubic, lanczos is needed.")
        for value in ("cubic", 3, "", True, ["bilinear"])
    ),
    *((dict(classes=value), LIST) for value in ("no", 3, {0: "no"}, [["no"], ["yes"]], [None, None], b"no")),
    *(
        (dict(classes=["no", bad]), "which cannot be shown. Take it out.")
        for bad in ("\ud800", "a\0", "a\nb", "\x1b[31m")
    ),
    *(({name: value}, "a text is needed.") for name in ("title", "licence", "weights") for value in (3, ["x"])),
]


def giving(settings: Any) -> tuple[nn.Module, Any]:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), settings


@pytest.mark.parametrize(("settings", "sentence"), REFUSED, ids=lambda value: repr(value)[:40])
def test_a_factorys_settings_are_held_to_what_the_flags_are(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FactoryError) as caught:
        checked("zoo:net", settings)
    (name,) = settings
    assert re.fullmatch(rf"zoo:net gave .{{1,82}} as '{name}': .*", str(caught.value))
    assert str(caught.value).endswith(sentence)


def test_a_factorys_settings_say_what_a_flag_would_say() -> None:
    flags = {setting.name: setting.read for setting in TABLE}
    for name, text in (("input_size", "big"), ("mean", "x"), ("std", "0"), ("interpolation", "cubic")):
        with pytest.raises(BadValue) as of_flag:
            flags[name](text)
        with pytest.raises(FactoryError, match=re.escape(str(of_flag.value))):
            checked("zoo:net", {name: text})


def test_a_setting_that_there_is_not_is_told_with_what_is_near() -> None:
    with pytest.raises(
        FactoryError, match=r"gave a setting 'inputsize', which there is not. Did you mean 'input_size'\?"
    ):
        checked("zoo:net", {"inputsize": 32})
    with pytest.raises(FactoryError, match=r"which there is not\. There are input_size, resize, mean, std, interpol"):
        checked("zoo:net", {7: 32})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("input_size", 32, (32, 32)),
        ("input_size", np.int64(32), (32, 32)),
        ("input_size", 32.0, (32, 32)),
        ("input_size", "48x64", (48, 64)),
        ("input_size", [48, 64], (48, 64)),
        ("input_size", torch.Size([48, 64]), (48, 64)),
        ("input_size", (3, 48, 64), (48, 64)),
        ("resize", 256, "256"),
        ("resize", "squash", "squash"),
        ("resize", (2, 3), (2, 3)),
        ("channel_order", "BGR", "bgr"),
        ("range", 255, 255),
        ("inputs", {"on": True}, {"on": True}),
        ("mean", 0, (0.0, 0.0, 0.0)),
        ("mean", [0.5], (0.5, 0.5, 0.5)),
        ("mean", (1, 2, 3, 4), (1.0, 2.0, 3.0, 4.0)),
        ("mean", torch.tensor([0.25, 0.5, 1.0]), (0.25, 0.5, 1.0)),
        ("std", np.array([0.25, 0.5, 1.0]), (0.25, 0.5, 1.0)),
        ("std", (1e-7, 1, 255), (1e-7, 1.0, 255.0)),
        ("interpolation", "Bicubic", "bicubic"),
        ("interpolation", InterpolationMode.BICUBIC, "bicubic"),
        ("classes", np.array(["no", "yes"]), ("no", "yes")),
        ("classes", range(2), ("0", "1")),
        ("title", "  My\nnet ", "My net"),
    ],
)
def test_a_factorys_settings_may_come_as_whatever_holds_them(name: str, value: Any, wanted: Any) -> None:
    assert checked("zoo:net", {name: value, "licence": None}) == {name: wanted}


def test_what_a_factory_gives_is_checked_when_its_model_is_opened(folder: Path) -> None:
    name = f"own_{os.urandom(4).hex()}"
    (folder / f"{name}.py").write_text(
        textwrap.dedent("""
            import timm
            from torch import nn

            def net(outputs):
                return nn.Sequential(nn.Conv2d(3, outputs, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

            def flat():
                return net(2), dict(std=0)

            def few():
                return net(3), dict(classes=["no", "yes"])

            def changed():
                model = timm.create_model("resnet10t", pretrained=False)
                model.pretrained_cfg = {**model.pretrained_cfg, "std": (0.5, 0, 0.5)}
                return model
        """)
    )
    with pytest.raises(FactoryError, match=f"{name}:flat gave 0 as 'std': {ABOVE_0}"):
        load(ModelOptions(f"{name}:flat"), "cpu")
    info = load(ModelOptions(f"{name}:few"), "cpu").info
    assert info.classes == ("no", "yes", "class 2")
    assert info.notes[:-1] == (
        "The model's own list has 2 class names for an answer of 3 numbers. They are used as far as they go.",
    )
    with pytest.raises(FactoryError, match=f"{name}:changed gave .* as 'std': {ABOVE_0}"):
        load(ModelOptions(f"{name}:changed"), "cpu")


HUGE = 100_000


def test_what_is_written_at_length_is_cut_where_it_enters(folder: Path) -> None:
    """A title, a class, a type and a sentence of any length; a layer's name is what it is asked for by, and is not."""
    name = f"own_{os.urandom(4).hex()}"
    (folder / f"{name}.py").write_text(
        textwrap.dedent(f"""
            from torch import nn

            Long = type("L" * {HUGE}, (nn.Sequential,), {{}})

            def net(*parts):
                return Long(nn.Conv2d(3, 2, 3), *parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())

            def long():
                word = "w" * {HUGE}
                model = net(nn.ModuleList([nn.ReLU()]))
                model[1].forward = lambda x: x
                return model, dict(title=word, licence=word, weights=word, classes=[word, word + "2"])

            def untitled():
                return net(Long(nn.Identity()))

            def deep_name():
                model = net()
                model.add_module("n" * {HUGE}, nn.Identity())
                return model

            def odd_name(name="a\\nb"):
                model = net()
                model.add_module(name, nn.Identity())
                return model

            def fails():
                raise type("E" * {HUGE}, (Exception,), {{}})("e" * {HUGE})
        """)
    )
    for factory in ("long", "untitled"):
        info = load(ModelOptions(f"{name}:{factory}"), "cpu").info
        texts = [info.title, info.licence, info.weights, *info.classes]
        texts += [text for layer in info.layers for text in (layer.type, layer.reason_not_run)]
        assert max(map(len, texts)) <= 5000 and len(info.title) <= 80 and len(info.layers[0].type) <= 80
    with pytest.raises(ModelNotSupported, match=f"a name of {HUGE} characters .{{1,90}}, and 4000 fit into an address"):
        load(ModelOptions(f"{name}:deep_name"), "cpu")
    with pytest.raises(ModelNotSupported, match=r"The layer 'a\\nb' has the character U\+000A in its name"):
        load(ModelOptions(f"{name}:odd_name"), "cpu")
    with pytest.raises(FactoryError) as caught:
        load(ModelOptions(f"{name}:fails"), "cpu")
    assert len(str(caught.value)) < 1000


def test_modules_deep_in_each_other_are_opened_and_looked_at(folder: Path) -> None:
    """In a process of its own, because Python's limit of nested calls is the process's."""
    name = f"own_{os.urandom(4).hex()}"
    (folder / f"{name}.py").write_text(
        textwrap.dedent("""
            from torch import nn

            def deep(levels):
                part = nn.Conv2d(3, 2, 3)
                for _ in range(levels):
                    part = nn.Sequential(part)
                return nn.Sequential(part, nn.AdaptiveAvgPool2d(1), nn.Flatten()), {"input_size": 32}
        """)
    )
    code = f"""
        import json, sys
        from hookscope.dashboard.components.layer_tree import tree_nodes
        from hookscope.dashboard.engine import protocol
        from hookscope.dashboard.engine.options import ModelOptions
        from hookscope.dashboard.sources.load import load
        from hookscope.hooks.looks.cam import layer_map
        from hookscope.hooks.looks.capture import stream
        model = load(ModelOptions("{name}:deep", arguments='{{"levels": 250}}'), "cpu")
        layers = protocol.decode(protocol.encode(protocol.Ready(model.info))).info.layers
        inner = layers[251].name
        seen = []
        stream(model.module, model.prepare.noise(0), [(inner, 0)], lambda *found: seen.append(found[2]), layers)
        print(len(tree_nodes(layers)), inner.count("."), seen[0].values.shape, layer_map(
            model.module, model.prepare.noise(0), inner, 0).values.shape)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(SOURCE)])}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == ["254", "250", "(2,", "30,", "30)", "(30,", "30)"]


def test_class_names_are_kept_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    odd = [
        "form\x0cfeed",
        "next\x85line",
        "line\u2028separator",
        "para\u2029graph",
        "tab\there",
        "\u202eright",
        "\U0001f408",
    ]
    path.write_text("\r\n".join([*odd, "last"]) + "\n\n", encoding="utf-8", newline="")
    assert given_names((), str(path)) == ((*odd, "last"), path.name)
    path.write_text(json.dumps(odd))
    assert given_names((), str(path))[0] == tuple(odd)
    path.write_text("c" * HUGE + "\nother")
    assert [len(name) for name in given_names((), str(path))[0]] == [200, 5]
    assert [len(name) for name in given_names(("c" * HUGE, "other"), "")[0]] == [200, 5]
    for bad, which in (
        ("\0", "U+0000"),
        ("\x1b[0m", "U+001B"),
        ("\x0b", "U+000B"),
        ("\x9f", "U+009F"),
        ("\x7f", "U+007F"),
    ):
        path.write_text(f"cat\na{bad}b\n", encoding="utf-8")
        with pytest.raises(LabelsError, match=rf"the name of class 1 holds the character {re.escape(which)}, which"):
            given_names((), str(path))
    for bad, which in (("\ud800", "U+D800"), ("a\nb", "U+000A"), ("\r", "U+000D")):
        path.write_text(json.dumps({"0": "cat", "1": bad}))
        with pytest.raises(LabelsError, match=rf"the name of class 1 holds the character {re.escape(which)}, which"):
            given_names((), str(path))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"0":' * 100_000, "[" * 500 + "]" * 500, '["a", {}]', '["a", null]', '[["a", ["b"]]]', "[[]]"],
)
def test_json_that_is_no_list_of_names_is_told_whatever_its_depth(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(LabelsError, match="are JSON of an unknown form"):
        given_names((), str(path))


def test_a_file_that_is_no_list_of_names_is_not_read_to_its_end() -> None:
    with pytest.raises(LabelsError, match="larger than 16 MB"):
        given_names((), "/dev/zero")


def test_the_fingerprint_is_the_same_whatever_this_process_has_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ModelOptions(spec(folder, "net"))
    before = load(options, "cpu").info.fingerprint
    for package in ("timm", "transformers"):
        stand_in = types.ModuleType(package)
        stand_in.__dict__["__version__"] = "another"
        monkeypatch.setitem(sys.modules, package, stand_in)
    assert load(options, "cpu").info.fingerprint == before


def test_the_fingerprint_follows_code_weights_and_preprocessing(folder: Path) -> None:
    options = ModelOptions(spec(folder, "net"))
    prints = {load(options, "cpu").info.fingerprint}
    assert len(prints | {load(options, "cpu").info.fingerprint}) == 1
    prints.add(load(ModelOptions(spec(folder, "net"), mean=(0.0, 0.0, 0.0)), "cpu").info.fingerprint)
    prints.add(load(ModelOptions(spec(folder, "net"), seed=5), "cpu").info.fingerprint)
    assert len(prints) == 3


# --- weights


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_safetensors_are_read(tmp_path: Path) -> None:
    original, copy = net(), net()
    save_file(original.state_dict(), tmp_path / "w.safetensors")
    fitting.fill(copy, checkpoints.read(tmp_path / "w.safetensors"), "w.safetensors")
    assert weights.digest(copy) == weights.digest(original)
    copy.state_dict()["0.weight"][0, 0, 0, 0] += 1e-3
    assert weights.digest(copy) != weights.digest(original)


def test_weights_that_do_not_fit_are_named() -> None:
    state = net().state_dict()
    state["extra.weight"] = state.pop("3.bias")
    state["0.weight"] = torch.zeros(8, 3, 3, 3)
    with pytest.raises(WeightsError) as caught:
        fitting.fill(net(), {"": state}, "w.pt")
    assert str(caught.value) == (
        "The weights in w.pt do not fit Sequential: 1 missing (3.bias); 1 without a place in the model "
        "(extra.weight); 1 of another shape (0.weight is 8 x 3 x 3 x 3 in the file and 4 x 3 x 3 x 3 in the model). "
        "Check that the file belongs to this model, and the model's arguments."
    )


# --- names of classes, devices


def test_class_names_come_from_the_file_or_the_weights(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("cat\n\u00e9cureuil \n\n")
    (tmp_path / "list.json").write_text(json.dumps(["cat", "dog"]))
    (tmp_path / "index.json").write_text(json.dumps({"1": ["n1", "dog"], "0": ["n0", "cat"]}))
    for name in ("list.json", "index.json"):
        assert given_names(("x", "y"), str(tmp_path / name)) == (("cat", "dog"), name)
    assert given_names((), str(tmp_path / "lines.txt"))[0] == ("cat", "\u00e9cureuil")
    assert given_names(("x", "y"), "") == (("x", "y"), "The model's own list")


@pytest.mark.parametrize(
    ("count", "names", "note"),
    [
        (2, ("cat", "dog"), ""),
        (3, ("cat", "dog", "class 2"), "l.txt has 2 class names for an answer of 3 numbers. They are used as far as"),
        (1, ("cat",), "l.txt has 2 class names for an answer of 1 number. The rest is left out."),
        (0, (), "l.txt has 2 class names, and the answer is no list of classes."),
    ],
)
def test_names_that_do_not_fit_are_used_as_far_as_they_go_and_said(
    count: int, names: tuple[str, ...], note: str
) -> None:
    found = class_names([f"class {index}" for index in range(count)], ("cat", "dog"), "l.txt")
    assert found.names == names and found.note.startswith(note) and bool(found.note) == bool(note)
    assert class_names(["class 0"], (), "l.txt").names == ("class 0",)


def test_a_device_that_is_not_here_is_a_sentence() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="There is no device cuda:77 here"):
        choose_device("cuda:77")
    with pytest.raises(HooksError, match="is no device"):
        choose_device("gpu")
