"""docs/models.md: every row is opened, and opens as it says there."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import brought_models as brought
import hugging_face_folders as folders
import library_models as library
import numpy as np
import pytest
import raw_nets
import torch
from brought_models import ENDS, PLAIN, Ends, Net, TwoOutputs, saying
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import LoadedModel, load
from hookscope.hooks.errors import HooksError, NoGradient
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.looks.score_cam import score_cam
from hookscope.hooks.passes.looking import looking

ROOT = Path(__file__).parent.parent
TABLE = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (\*\*[^|]+) \|$", (ROOT / "docs" / "models.md").read_text(), re.M)


class WithAge(Net):
    def forward(self, picture: Tensor, age: Tensor) -> Any:  # type: ignore[override]
        return super().forward(picture) + age


class Pair(Net):
    def forward(self, left: Tensor, right: Tensor) -> Any:  # type: ignore[override]
        return super().forward(left) - super().forward(right)


class Logits(Net):
    def forward(self, picture: Tensor) -> Any:
        return super().forward(picture)[:, :, None, None]


def of_channels(count: int) -> nn.Module:
    net = Net()
    net.conv = nn.Conv2d(count, 6, 5, stride=4, padding=2)
    return net


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(3, 3), nn.Flatten())


class OnePicture(Net):
    def forward(self, picture: Tensor) -> Any:
        scores = self.vector(picture)[0, :2].sigmoid()
        return {"boxes": torch.ones(2, 4).cumsum(1), "labels": torch.tensor([1, 2]), "scores": scores}


def video() -> nn.Module:
    return nn.Sequential(nn.Conv3d(3, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())


def named_logits() -> nn.Module:
    return TwoOutputs(lambda vector, logits: {"features": vector, "logits": logits, "more": logits[:, :2]})


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()))


Made = Callable[[], Any]
Answer = Callable[[Any], Tensor] | None  # what of a model's output is its answer, where that has numbers
FROM_LIBRARIES: dict[str, tuple[Made, dict[str, Any], Answer]] = {
    "int8, static": (lambda: (library.quantised(), PLAIN), {}, lambda output: output),
    "int8, dynamic": (lambda: (library.dynamically_quantised(), PLAIN), {}, lambda output: output),
    "int8, prepared": (lambda: (library.prepared_for_int8(), PLAIN), {}, lambda output: output),
    "an exported program": (lambda: (library.exported(), PLAIN), {}, lambda output: output),
    "traced by torch.fx": (lambda: (torch.fx.symbolic_trace(Net()), PLAIN), {}, lambda output: output),
    "averaged weights": (lambda: (AveragedModel(Net()), PLAIN), {}, lambda output: output),
    "weight and spectral norm": (lambda: (library.parametrised(), PLAIN), {}, lambda output: output),
    "a LightningModule": (lambda: (library.Lightning(), PLAIN), {}, lambda output: output),
    "a named tuple": (lambda: (library.NamedTuple(), PLAIN), {}, lambda output: output.logits),
    "a dataclass": (lambda: (library.InADataclass(), PLAIN), {}, lambda output: output.logits),
    "ordinal regression": (lambda: (Net(4), PLAIN), {"reads": "sigmoid"}, lambda output: output),
    "a mask and labels": (lambda: (library.UNet(3, 1, labels=4), PLAIN), {}, lambda output: output[1]),
    "a U-Net of one channel": (lambda: (library.UNet(1, 2), PLAIN), {}, None),
    "a segmenter with an auxiliary head": (lambda: (library.Auxiliary(3, 4), PLAIN), {}, None),
    "thirteen bands": (lambda: (of_channels(13), PLAIN), {}, None),
    "height and width before channels": (lambda: (library.ChannelsLast(), PLAIN), {}, None),
}
OWN: dict[str, Made | tuple[Made, dict[str, Any]]] = {
    "own, several outputs": lambda: (Net(), PLAIN),
    "own, one output": brought.age,
    "own, one output, yes or no": (brought.yes_or_no, {"reads": "sigmoid"}),
    "own, ends in a softmax": brought.ends_in_softmax,
    "own, ends in a sigmoid": lambda: (Ends(Net(), ENDS["a sigmoid module"]), PLAIN),
    "own, ends in a log-softmax": lambda: (Ends(Net(), nn.LogSoftmax(1)), PLAIN),
    "own, logits of shape (1, C, 1, 1)": lambda: (Logits(), PLAIN),
    "own, a tuple of features and logits": brought.embedding_and_logits,
    'own, a dict with "logits"': lambda: (named_logits(), PLAIN),
    "own, several heads": (brought.heads, {"output": "emotion"}),
    "own, a vector of length 1": brought.face,
    "own, one channel per pixel": brought.foreground,
    "own, layers of pixels": brought.layers_of_pixels,
    "own, a picture as answer": brought.autoencoder,
    "own, depth": brought.depth,
    "own, a list of feature maps": brought.pyramid,
    "own, a variational autoencoder": lambda: (brought.Coder(), PLAIN),
    "own, a denoiser of diffusion": lambda: (brought.Denoiser(), {**PLAIN, "inputs": {"timestep": 10}}),
    "own, a net of triplets": lambda: (brought.Triplet(8), PLAIN),
    "own, raw boxes of YOLOv8 (1, 4 + classes, N)": raw_nets.yolov8,
    "own, raw boxes of YOLOv5 (1, N, 5 + classes)": raw_nets.yolov5,
    "own, raw boxes of other strides": (brought.boxes, {"reads": "yolov8"}),
    "own, raw boxes that nobody tells": brought.boxes,
    "half precision": lambda: (saying(1.0, 2.0).half(), PLAIN),
    "bfloat16": lambda: (saying(1.0, 2.0).to(torch.bfloat16), PLAIN),
    "double precision": lambda: (saying(1.0, 2.0).double(), PLAIN),
    "compiled": lambda: (torch.compile(Net()), PLAIN),
    "DataParallel": lambda: (nn.DataParallel(Net()), PLAIN),
    **{what: (make, given) for what, (make, given, _) in FROM_LIBRARIES.items()},
    "one channel": lambda: (of_channels(1), PLAIN),
    "six channels": lambda: (of_channels(6), PLAIN),
    "a second argument": lambda: (WithAge(), {**PLAIN, "inputs": {"age": [0.6]}}),
    "two pictures": lambda: (Pair(), PLAIN),
    "own, boxes of one picture": lambda: (OnePicture(), PLAIN),
    "a second argument that nobody gives": lambda: (WithAge(), PLAIN),
    "video": video,
    "TorchScript": scripted,
    "lazy layers": lazy,
    "on the meta device": lambda: nn.Conv2d(3, 4, 3, device="meta"),
}
SMALL = {"arguments": '{"min_size": 64, "max_size": 96, "box_detections_per_img": 2}'}  # else it takes many seconds
NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "torchvision classifier": ("torchvision:resnet18@random", {}),
    "torchvision video classifier": ("torchvision:r3d_18@random", {}),
    "torchvision video transformer": ("torchvision:swin3d_t@random", {}),
    "torchvision segmenter": ("torchvision:lraspp_mobilenet_v3_large@random", {}),
    "torchvision detector": ("torchvision:ssdlite320_mobilenet_v3_large@random", {}),
    "torchvision detector with masks": ("torchvision:maskrcnn_resnet50_fpn@random", SMALL),
    "torchvision detector with keypoints": ("torchvision:keypointrcnn_resnet50_fpn@random", SMALL),
    "timm classifier": ("timm:resnet18@random", {}),
    "timm backbone": ("timm:resnet18@random", {"arguments": '{"num_classes": 0}'}),
    "timm, one channel": ("timm:resnet18@random", {"arguments": '{"in_chans": 1}'}),
}
FOLDERS: dict[str, tuple[str, bool]] = {
    "Hugging Face classifier (ViT)": ("vit", False),
    "Hugging Face classifier (ConvNeXt)": ("convnext", False),
    "Hugging Face classifier (Swin)": ("swin", False),
    "Hugging Face, several labels": ("vit_of_labels", False),
    "Hugging Face, regression": ("regression", False),
    "Hugging Face backbone (DINOv2)": ("dinov2", False),
    "Hugging Face segmenter (SegFormer)": ("segformer", False),
    "Hugging Face segmenter of queries (Mask2Former)": ("mask2former", False),
    "Hugging Face, a matte (ViTMatte)": ("matting", False),
    "Hugging Face detector (DETR)": ("detr", False),
    "Hugging Face detector (YOLOS)": ("yolos", False),
    "Hugging Face detector (RT-DETR)": ("rt_detr", False),
    "CLIP": ("clip", False),
    "CLIP with captions": ("clip", True),
    "CLIP, the half of pictures": ("clip_pictures", False),
    "SigLIP": ("siglip", False),
    "SigLIP with captions": ("siglip", True),
    "a text model": ("bert", False),
    "code in a folder (`auto_map`)": ("own_code", False),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documented")
    folders.write(folder)
    (folder / "captions.txt").write_text("a red cat\na green dog\n")
    (folder / "own_code").mkdir()
    (folder / "own_code" / "config.json").write_text(
        json.dumps({"model_type": "mine", "auto_map": {"AutoModel": "a.B"}})
    )
    return folder


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    made = types.ModuleType("documented_nets")
    sys.modules["documented_nets"] = made
    yield made
    del sys.modules["documented_nets"]


def opened(what: str, place: Path, module: Any) -> LoadedModel:
    if what in NAMED:
        spec, options = NAMED[what]
        return load(ModelOptions(spec, **options), "cpu")
    if what in FOLDERS:
        name, captions = FOLDERS[what]
        labels = str(place / "captions.txt") if captions else ""
        return load(ModelOptions(f"hf:{place / name}", labels=labels), "cpu")
    made = OWN[what]
    module.make, own = made if isinstance(made, tuple) else (made, {})
    return load(ModelOptions("documented_nets:make", **own), "cpu")


def test_the_table_has_a_row_for_each_and_each_a_row() -> None:
    assert [what for what, _, _ in TABLE] == list(dict.fromkeys(what for what, _, _ in TABLE))
    assert {what for what, _, _ in TABLE} == {*OWN, *NAMED, *FOLDERS} and len(TABLE) >= 50


@pytest.mark.parametrize(("what", "opens"), [(what, opens) for what, _, opens in TABLE])
def test_it_opens_as_the_table_says(what: str, opens: str, place: Path, module: Any) -> None:
    (word,) = re.findall(r"^\*\*(\w+)\*\*", opens)
    if word == "refused":
        (sentence,) = re.findall(r'"([^"]+)"', opens)
        with pytest.raises(HooksError, match=re.escape(sentence)):
            opened(what, place, module)
        return
    info = opened(what, place, module).info
    form, reading = info.form(), info.answer.reading
    reads = "layers" if form == "other" or (form == "pixels" and reading.reads == "values") else reading.reads
    assert ("boxes" if form == "boxes" else reads) == word
    assert info.answer.assumed == ("assumed" in opens)
    assert ("per position" in opens or "per pixel" in what or "of pixels" in what) == (
        form == "pixels" and reads != "layers"
    )
    said = " ".join(info.notes)
    assert ("are made grey" in opens) == ("made grey" in said)
    assert ("cast to" in opens) == ("cast to" in said)
    assert ("frames" in opens) == ("It takes clips of" in said)
    assert ("a second picture is chosen" in opens) == ("are two pictures" in said)


def test_the_wrapper_for_channels_last_runs(place: Path, module: Any) -> None:
    with pytest.raises(HooksError) as caught:
        opened("height and width before channels", place, module)
    made: dict[str, Any] = {"torch": torch}
    exec(str(caught.value)[str(caught.value).index("class Wrapped") :], made)
    module.make = lambda: (made["Wrapped"](library.ChannelsLast()), PLAIN)
    model = load(ModelOptions("documented_nets:make"), "cpu")
    picture = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.module(picture), Net().eval()(picture))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_before_a_quantised_layer_there_is_no_gradient_and_score_cam_works(place: Path, module: Any) -> None:
    model = opened("int8, dynamic", place, module)
    picture = torch.rand(1, 3, 64, 64)
    with pytest.raises(NoGradient, match=r"detached or computes in whole numbers, as int8 does\. Score-CAM needs"):
        layer_map(model.module, picture, "act", 1)
    (*_, found) = next(iter(score_cam(model.module, picture, [("act", 0)], 1, model.info.layers)))
    assert not isinstance(found, HooksError) and np.isfinite(found.values).all() and found.values.any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("what", [what for what, (_, _, answer) in FROM_LIBRARIES.items() if answer])
def test_its_numbers_are_those_of_the_model_called_by_hand(what: str, place: Path, module: Any) -> None:
    make, _, answer = FROM_LIBRARIES[what]
    model = opened(what, place, module)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    by_hand = make()[0]
    if not isinstance(by_hand, torch.fx.GraphModule):
        by_hand.eval()
    with looking(reading=model.info.answer.reading):
        found = predict(model.module, picture, ends_in_shares=False)
    assert answer is not None
    with torch.no_grad():
        right = answer(by_hand(picture))[0]
    np.testing.assert_allclose(found.numbers, right, atol=1e-5)
    shares = right.sigmoid() if model.info.answer.reading.reads == "sigmoid" else right.softmax(0)
    np.testing.assert_allclose(found.shares, shares, atol=1e-5)
