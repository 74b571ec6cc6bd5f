"""Models of transformers, opened from folders: each against the same model and processor, called by hand."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import hugging_face_folders as folders
import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from hookscope.dashboard.asking.sides import Preparation
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.settings.values import BadValue, model_spec
from hookscope.dashboard.sources.building import ModelNotFound
from hookscope.dashboard.sources.load import LoadedModel, OutputError, load
from hookscope.dashboard.sources.spec import title_of
from hookscope.hooks.looks.attention import attention_maps
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.detections import detections
from hookscope.hooks.looks.inputs import attribute_input
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.outputs import Scores
from hookscope.hooks.results.targets import Box

ROWS, COLUMNS = np.mgrid[:90, :200]
WIDE = Image.fromarray(
    np.stack([COLUMNS, 255 - ROWS * 2, 40 + (ROWS // 9 + COLUMNS // 9) % 2 * 100], -1).astype(np.uint8)
)
TALL = WIDE.rotate(90, expand=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    folders.write(folder)
    return folder


def opened(place: Path, name: str, **options: Any) -> LoadedModel:
    return load(ModelOptions(f"hf:{place / name}", **options), "cpu")


def by_hand(place: Path, name: str, kind: Any, picture: Image.Image = WIDE, **how: Any) -> tuple[Any, torch.Tensor]:
    """The model, computing attention in plain sight, and what its processor makes of a picture."""
    model = kind.from_pretrained(place / name, local_files_only=True, attn_implementation="eager", **how).eval()
    model.config.return_dict = True
    processor = hf.AutoImageProcessor.from_pretrained(place / name, local_files_only=True)
    return model, processor(images=picture, return_tensors="pt")["pixel_values"]


def scores_of(model: LoadedModel, picture: Image.Image = WIDE) -> Scores:
    with looking(reading=model.info.answer.reading):
        return predict(model.module, model.prepare(picture).tensor)


CLASSIFIERS = {
    "vit": (hf.ViTForImageClassification, "softmax", ("cat", "dog", "bird")),
    "vit_of_labels": (hf.ViTForImageClassification, "sigmoid", ("cat", "dog", "bird")),
    "vit_of_tuples": (hf.ViTForImageClassification, "softmax", ("class 0", "class 1")),
    "regression": (hf.ViTForImageClassification, "values", ("age",)),
    "convnext": (hf.ConvNextForImageClassification, "softmax", ("cat", "dog", "bird")),
    "swin": (hf.SwinForImageClassification, "softmax", ("cat", "dog", "bird")),
}


@pytest.mark.parametrize("picture", [WIDE, TALL], ids=["wide", "tall"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_answers_as_by_hand(name: str, picture: Image.Image, place: Path) -> None:
    kind, reads, classes = CLASSIFIERS[name]
    model = opened(place, name)
    plain, tensor = by_hand(place, name, kind, picture)
    torch.testing.assert_close(model.prepare(picture).tensor, tensor, rtol=1e-5, atol=1e-5)
    assert model.info.answer.reading.reads == reads and not model.info.answer.assumed
    assert model.info.classes == classes and model.info.title == name and not model.info.random_part
    with torch.no_grad():
        logits = plain(pixel_values=tensor).logits[0]
    scores = scores_of(model, picture)
    np.testing.assert_allclose(scores.logits, logits, atol=1e-5)
    if reads != "values":
        shares = logits.softmax(0) if reads == "softmax" else logits.sigmoid()
        np.testing.assert_allclose(scores.shares, shares, atol=1e-5)


def test_captions_of_a_file_are_what_the_picture_is_compared_with(place: Path, tmp_path: Path) -> None:
    captions = ["a red cat", "a green dog", "a dog"]
    (tmp_path / "captions.txt").write_text("\n".join(captions))
    for name, kind in (("clip", hf.CLIPModel), ("siglip", hf.SiglipModel)):
        model = opened(place, name, labels=str(tmp_path / "captions.txt"))
        plain, tensor = by_hand(place, name, kind)
        texts = folders.tokenizer()(captions, padding="max_length", return_tensors="pt")
        with torch.no_grad():
            texts = {each: texts[each] for each in ("input_ids", "attention_mask")}
            logits = plain(pixel_values=tensor, **texts).logits_per_image[0]
        np.testing.assert_allclose(scores_of(model).logits, logits, atol=1e-4)
        assert model.info.classes == tuple(captions)
        assert model.info.answer.reading.reads == ("softmax" if name == "clip" else "sigmoid")


@pytest.mark.parametrize(("name", "kind"), [("clip", hf.CLIPModel), ("siglip", hf.SiglipModel)])
def test_without_captions_it_is_an_embedding(name: str, kind: Any, place: Path) -> None:
    model = opened(place, name)
    plain, tensor = by_hand(place, name, kind)
    with torch.no_grad():
        embedding = plain.get_image_features(pixel_values=tensor).pooler_output[0]
    assert model.info.answer.reading.reads == "embedding" and not model.info.names()
    np.testing.assert_allclose(scores_of(model).numbers, embedding / embedding.norm(), atol=1e-5)


def test_a_backbone_is_an_embedding(place: Path) -> None:
    model = opened(place, "dinov2")
    plain, tensor = by_hand(place, "dinov2", hf.Dinov2Model)
    with torch.no_grad():
        np.testing.assert_allclose(scores_of(model).numbers, plain(tensor).pooler_output[0], atol=1e-5)
    assert model.info.answer.reading.output == "pooler_output" and model.info.answer.reading.reads == "embedding"


def test_a_segmenter_has_classes_per_position(place: Path) -> None:
    model = opened(place, "segformer")
    plain, tensor = by_hand(place, "segformer", hf.SegformerForSemanticSegmentation)
    with torch.no_grad():
        regions = plain(pixel_values=tensor).logits[0].argmax(0)
    shares = [float((regions == index).float().mean()) for index in range(3)]
    np.testing.assert_allclose(scores_of(model).shares, shares, atol=1e-6)


def test_a_model_of_queries_gives_the_regions_of_its_own_library(place: Path) -> None:
    model = opened(place, "mask2former")
    plain, tensor = by_hand(place, "mask2former", hf.Mask2FormerForUniversalSegmentation)
    with torch.no_grad():
        output = plain(pixel_values=tensor)
        ours = model.module(tensor)["classes"]
    ours = torch.nn.functional.interpolate(ours, size=(384, 384), mode="bilinear")[0].argmax(0)
    processor = hf.AutoImageProcessor.from_pretrained(place / "mask2former")
    (theirs,) = processor.post_process_semantic_segmentation(output, target_sizes=[(384, 384)])
    assert (ours == theirs).float().mean() > 0.97  # they resize each mask, we the sum
    assert sum(scores_of(model).shares) == pytest.approx(1)


DETECTORS = {
    "detr": hf.DetrForObjectDetection,
    "yolos": hf.YolosForObjectDetection,
    "rt_detr": hf.RTDetrForObjectDetection,
}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_finds_the_boxes_of_its_own_library(name: str, place: Path) -> None:
    model = opened(place, name)
    plain, tensor = by_hand(place, name, DETECTORS[name])
    processor = hf.AutoImageProcessor.from_pretrained(place / name)
    with torch.no_grad():
        output = plain(pixel_values=tensor)
        (right,) = processor.post_process_object_detection(output, threshold=0.05, target_sizes=[tensor.shape[-2:]])
        found = detections(model.module(model.prepare(WIDE).tensor))
    order = right["scores"].argsort(descending=True)
    assert found is not None and len(found.scores) == len(order) > 0
    np.testing.assert_allclose(found.scores, right["scores"][order], atol=1e-5)
    np.testing.assert_allclose(found.boxes, right["boxes"][order], atol=1e-3)
    assert model.info.form() == "boxes" and model.info.classes[:3] == ("cat", "dog", "bird")
    # and the score of a box is what a map explains
    layer = next(each.name for each in model.info.layers if each.type == "Conv2d")
    ((*_, map_of),) = grad_cam(model.module, model.prepare(WIDE).tensor, [(layer, 0)], Box(1), model.info.layers)
    assert map_of.logit == pytest.approx(float(found.scores[1]), abs=1e-5) and map_of.values.any()


ATTENTION: dict[str, tuple[Any, tuple[str, ...]]] = {  # and what the library calls them, in the order in which they run
    "vit": (hf.ViTForImageClassification, ("attentions",)),
    "dinov2": (hf.Dinov2Model, ("attentions",)),
    "yolos": (hf.YolosForObjectDetection, ("attentions",)),
    "swin": (hf.SwinForImageClassification, ("attentions",)),  # by windows
    "segformer": (hf.SegformerForSemanticSegmentation, ("attentions",)),  # keys of fewer positions
    "matting": (hf.VitMatteForImageMatting, ("attentions",)),
    "detr": (hf.DetrForObjectDetection, ("encoder_attentions", "decoder_attentions", "cross_attentions")),
    "rt_detr": (hf.RTDetrForObjectDetection, ("encoder_attentions", "decoder_attentions")),
    "clip": (hf.CLIPModel, ("attentions",)),
    "siglip": (hf.SiglipModel, ("attentions",)),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_that_of_the_library(name: str, place: Path) -> None:
    """Ours is recomputed from what the fused kernel is given; theirs is what the eager code returns."""
    kind, fields = ATTENTION[name]
    model = opened(place, name)
    plain, tensor = by_hand(place, name, kind)
    with torch.no_grad():
        asked = plain.vision_model if name in ("clip", "siglip") else plain
        output = asked(pixel_values=tensor, output_attentions=True)
    right = [each for field in fields for each in output[field]]
    wanted = [(each.name, 0) for each in model.info.layers if each.calls and each.calls[0].heads]
    found: list[Any] = []
    attention_maps(model.module, tensor, wanted, model.info.layers, lambda *each: found.append(each[2]))
    if name == "matting":  # the first block's windows are not known for an attention
        right = right[1:]
    if name == "siglip":  # whose pooling is an attention too, which its library does not return
        assert found.pop().layer == "model.vision_model.head.attention"
    assert len(found) == len(right) > 0
    for ours, theirs in zip(found, right, strict=True):
        weights = theirs.reshape(ours.weights.shape)  # without the image axis
        np.testing.assert_allclose(ours.weights, weights.numpy(), atol=1e-5)
        np.testing.assert_allclose(ours.weights.sum(-1), 1, atol=1e-5)


def first_number(output: Any) -> torch.Tensor:
    """Of an embedding."""
    found: torch.Tensor = output["image_embeds" if "image_embeds" in output else "pooler_output"][0, 3]
    return found


def of_class_1(output: Any) -> torch.Tensor:
    found: torch.Tensor = (output[0] if isinstance(output, tuple) else output.logits)[0, 1]
    return found


def of_pixels(logits: torch.Tensor, index: int) -> torch.Tensor:
    return logits[index][logits.argmax(0) == index].sum()


MAPS: dict[str, tuple[Any, Any]] = {  # what is asked for, and the same number of the model's output by hand
    "vit": (1, of_class_1),
    "vit_of_labels": (1, of_class_1),
    "vit_of_tuples": (1, of_class_1),
    "regression": (0, lambda output: output.logits[0, 0]),
    "convnext": (1, of_class_1),
    "swin": (1, of_class_1),
    "segformer": (1, lambda output: of_pixels(output.logits[0], 1)),
    "mask2former": (None, lambda output: of_pixels(output["classes"][0], int(most(output["classes"][0])))),
    "dinov2": (first_number, first_number),
    "clip": (first_number, first_number),
    "siglip": (first_number, first_number),
}


def most(logits: torch.Tensor) -> torch.Tensor:
    """The class of the most positions."""
    return logits.argmax(0).flatten().bincount().argmax()


def weighted(call: Any, output: torch.Tensor, score: torch.Tensor) -> np.ndarray:
    """Grad-CAM by hand, with what speaks against the target: the mean slope of each channel times its values."""
    (gradient,) = torch.autograd.grad(score, output, retain_graph=True)
    values, slopes = (each.detach().squeeze(call.axes.index("image")) for each in (output, gradient))
    axes = [axis for axis in call.axes if axis != "image"]
    if "token" in axes:
        values, slopes = (each[call.prefix_tokens :].mT.reshape(-1, *call.grid) for each in (values, slopes))
    else:
        order = [axes.index(axis) for axis in ("channel", "height", "width")]
        values, slopes = values.permute(order), slopes.permute(order)
    found: np.ndarray = (slopes.mean((1, 2))[:, None, None] * values).sum(0).numpy()
    return found


def usable(model: LoadedModel) -> list[Any]:
    """The layers without parts whose values lie on the picture."""
    layers = [each for each in model.info.layers if each.calls and not each.operation and each.leaf]
    layers = [each for each in layers if "image" in each.calls[0].axes and "channel" in each.calls[0].axes]
    return [each for each in layers if "height" in each.calls[0].axes or each.calls[0].grid]


def run_with(module: Any, layer: str, tensor: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """A module's output, and that of one of its layers."""
    kept: list[torch.Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda *each: kept.append(each[2]))
    output = module(tensor)
    handle.remove()
    return output, kept[0]


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_the_gradient_weighted_sum_by_hand(name: str, place: Path) -> None:
    """Of a layer in the middle."""
    model = opened(place, name)
    tensor = model.prepare(WIDE).tensor
    layer = usable(model)[len(usable(model)) // 2]
    target, score_of = MAPS[name]
    with looking(reading=model.info.answer.reading):
        ((*_, ours),) = grad_cam(model.module, tensor, [(layer.name, 0)], target, model.info.layers)
    output, values = run_with(model.module, layer.name, tensor)
    score = score_of(output)
    assert ours.logit == pytest.approx(float(score.detach()), rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(ours.values, weighted(layer.calls[0], values, score), atol=1e-5)


def test_a_head_that_ends_in_a_sigmoid_is_explained_before_it(place: Path) -> None:
    """ViTMatte, whose backbone has its channels last: alphas, regions and maps against the library's own model."""
    model = opened(place, "matting")
    plain, tensor = by_hand(place, "matting", hf.VitMatteForImageMatting)
    layers = ("backbone.encoder.layer.1.norm1", "backbone.encoder.layer.1.mlp.fc2", "decoder.fusion_blocks.1.conv.relu")
    calls = {each.name: each.calls[0] for each in model.info.layers if each.name in layers}
    assert [calls[name].axes[-1] for name in layers] == ["channel", "channel", "width"]
    kept: dict[str, torch.Tensor] = {}
    for name in (*layers, "decoder.matting_head"):
        plain.get_submodule(name).register_forward_hook(lambda *each, name=name: kept.__setitem__(name, each[2]))
    given = tensor.clone().requires_grad_()
    alphas, logits = plain(pixel_values=given).alphas[0, 0], kept["decoder.matting_head"][0, 0]
    score = logits[alphas > 0.5].sum()
    assert 0 < (alphas > 0.5).float().mean() < 1
    scores = scores_of(model)
    assert scores.reads == "probabilities" and not model.info.answer.assumed and scores.output == "alphas"
    assert scores.logits[0] == pytest.approx(float(score.detach()), rel=1e-5)
    assert scores.shares[0] == pytest.approx(float((alphas > 0.5).float().mean()), abs=1e-6)
    np.testing.assert_array_equal(scores.regions == 0, (alphas > 0.5).numpy())
    with looking(reading=model.info.answer.reading):
        found = list(grad_cam(model.module, tensor, [(name, 0) for name in layers], None, model.info.layers))
        saliency = attribute_input(model.module, tensor, "saliency", 0)
    assert {name for name, *_ in found} == {*layers}
    for name, _, ours in found:
        np.testing.assert_allclose(ours.values, weighted(calls[name], kept[name], score), rtol=1e-4, atol=1e-5)
    (slopes,) = torch.autograd.grad(score, given)
    np.testing.assert_allclose(saliency.values, slopes[0].abs().amax(0), rtol=1e-4, atol=1e-5)


def detr_scores(logits: torch.Tensor) -> torch.Tensor:
    """Of its boxes, the best first; the last class is "no object"."""
    return logits[0].softmax(-1)[:, :-1].amax(-1).sort(descending=True).values


@pytest.mark.parametrize(
    ("name", "scores_of_boxes"),
    [
        ("detr", detr_scores),
        ("yolos", detr_scores),
        ("rt_detr", lambda logits: logits[0].sigmoid().flatten().sort(descending=True).values),
    ],
)
def test_a_box_is_explained_by_its_score_by_hand(name: str, scores_of_boxes: Any, place: Path) -> None:
    model = opened(place, name)
    tensor = model.prepare(WIDE).tensor
    layer = usable(model)[min(2, len(usable(model)) - 1)]  # YOLOS' tokens of detections follow the patches: one layer
    ((*_, ours),) = grad_cam(model.module, tensor, [(layer.name, 0)], Box(1), model.info.layers)
    output, values = run_with(model.module.model, layer.name.removeprefix("model."), tensor)
    score = scores_of_boxes(output.logits)[1]
    assert ours.logit == pytest.approx(float(score.detach()), abs=1e-5)
    right = weighted(layer.calls[0], values, score)
    assert np.abs(right).max() > 0
    np.testing.assert_allclose(ours.values, right, atol=1e-5)


# --- where the network's picture lies in the photograph


CROPS = {  # of the picture of 200 x 90
    "vit": (0, 0, 200, 90),
    "segformer": (0, 0, 200, 90),
    "detr": (0, 0, 200, 90),
    "yolos": (0, 0, 200, 90),
    "convnext": (61.0, 5.55, 139.9, 84.5),  # 73 / 90 of it, 64 of that
    "dinov2": (61.0, 5.55, 139.9, 84.5),
    "clip": (55, 0, 145, 90),
}


@pytest.mark.parametrize("name", CROPS)
def test_where_it_lies_is_measured(name: str, place: Path) -> None:
    prepared = opened(place, name).prepare(WIDE)
    assert prepared.crop == pytest.approx(CROPS[name], abs=1.3)  # a pixel of the network's is 1.2 of these
    tensor = (prepared.tensor[0] * torch.tensor(prepared.std)[:, None, None]) + torch.tensor(prepared.mean)[
        :, None, None
    ]
    assert np.abs(prepared.pixels - tensor.permute(1, 2, 0).numpy() * 255).max() <= 0.51


def test_a_large_photograph_is_no_elongated_one(place: Path) -> None:
    prepared = opened(place, "vit").prepare(WIDE.resize((4000, 1800)))
    assert prepared.tensor.shape == (1, 3, 64, 64) and prepared.crop == pytest.approx((0, 0, 4000, 1800), abs=30)


def test_a_side_can_be_prepared_otherwise(place: Path) -> None:
    model = opened(place, "vit")
    own = model.prepare(WIDE)
    swapped = model.prepare.otherwise(Preparation.read("bgr"))(WIDE)
    torch.testing.assert_close(swapped.tensor, own.tensor.flip(1))
    cut = model.prepare.otherwise(Preparation.read("cut,unit"))(WIDE)
    assert cut.crop == pytest.approx((55, 0, 145, 90), abs=1) and 0 <= cut.tensor.min() < cut.tensor.max() <= 1


# --- what cannot be opened


def changed(place: Path, tmp_path: Path, name: str, **changes: Any) -> Path:
    """A copy of a folder with another config.json."""
    shutil.copytree(place / name, tmp_path / name)
    path = tmp_path / name / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return tmp_path


def refused(place: Path, name: str, **options: Any) -> str:
    with pytest.raises(ModelNotFound) as caught:
        opened(place, name, **options)
    return str(caught.value).removeprefix(str(place / name)).strip()


def test_a_model_of_texts_is_told(place: Path) -> None:
    assert refused(place, "bert") == (
        "is a model of bert (BertModel), which takes no pictures. Hookscope looks into vision models."
    )


def test_a_folder_without_a_processor_says_so_or_takes_what_the_operator_says(place: Path, tmp_path: Path) -> None:
    folder = changed(place, tmp_path, "vit")
    (folder / "vit" / "preprocessor_config.json").unlink()
    assert "does not say how pictures are prepared" in refused(folder, "vit")
    model = opened(folder, "vit", mean=(0.5,) * 3, std=(0.5,) * 3)
    assert model.prepare(WIDE).tensor.shape == (1, 3, 64, 64) and model.info.preprocessing.known("fit") == "assumed"


def test_a_detector_without_a_processor_cannot_make_boxes(place: Path, tmp_path: Path) -> None:
    folder = changed(place, tmp_path, "yolos")
    (folder / "yolos" / "preprocessor_config.json").unlink()
    assert "does not say how pictures are prepared" in refused(folder, "yolos", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_code_of_a_folder_is_never_run(place: Path, tmp_path: Path) -> None:
    folder = changed(place, tmp_path, "vit", auto_map={"AutoModel": "evil.Model"}, architectures=["Model"])
    (folder / "vit" / "evil.py").write_text("raise SystemExit('run')")
    assert refused(folder, "vit").startswith("brings code of its own (auto_map), which is never run.")


def test_pickled_weights_are_not_read(place: Path, tmp_path: Path) -> None:
    folder = changed(place, tmp_path, "vit")
    (folder / "vit" / "model.safetensors").unlink()
    (folder / "vit" / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch /tmp/run'\ntR.")
    assert refused(folder, "vit").startswith("has no .safetensors: only these are read")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architectures": ["NoSuchModel"]}, "has no model class of the name that"),
        ({"architectures": ["logging"]}, "has no model class of the name that"),
        ({"architectures": None}, "has no model class of the name that"),
        ({"model_type": "nothing"}, "cannot be read (ValueError"),
    ],
)
def test_a_configuration_that_names_nothing_is_told(
    changes: dict[str, Any], sentence: str, place: Path, tmp_path: Path
) -> None:
    assert sentence in refused(changed(place, tmp_path, "vit", **changes), "vit")


def test_a_folder_that_is_none(place: Path, tmp_path: Path) -> None:
    assert refused(place, "nothing").startswith("is no folder here: hf: takes a folder")
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path, "empty").startswith("has no config.json: hf: takes a folder")


def test_weights_that_are_missing_or_left_over_are_named(place: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = changed(place, tmp_path, "vit")
    path = folder / "vit" / "model.safetensors"
    tensors = load_file(path)
    del tensors["classifier.weight"], tensors["classifier.bias"]
    save_file({**tensors, "extra.weight": torch.zeros(2)}, path, metadata={"format": "pt"})
    info = opened(folder, "vit").info
    assert "2 of its weights are not in the file and are random: classifier.bias, classifier.weight." in info.notes[0]
    assert "1 weights of the file were left out: extra.weight." in info.notes[0]
    assert info.random_part == "classifier" and info.reservation == "random head"


def test_an_output_that_is_not_there(place: Path) -> None:
    with pytest.raises(OutputError, match=r"has no output 'scores': it has 'logits'\. Choose one of these"):
        opened(place, "vit", output="scores")


def test_without_the_package_one_sentence_says_how_to_get_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelNotFound, match=r"need the package transformers: pip install 'hookscope\[hf\]'"):
        opened(place, "vit")


def test_the_spec_is_a_folder_and_the_title_its_name() -> None:
    assert model_spec("hf:/some/where/vit-base") == "hf:/some/where/vit-base"
    assert title_of("hf:/some/where/vit-base/") == "vit-base" and title_of("mine=hf:x") == "mine"
    with pytest.raises(BadValue):
        model_spec("hf:")
