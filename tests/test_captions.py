"""Captions that are typed: read as hostile, compared as transformers does it, and asked about beside others."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hugging_face_folders as folders
import numpy as np
import pytest
import torch
import transformers as hf
from own_page import Page
from PIL import Image

from hookscope.dashboard.asking.captions import LONGEST, MOST, each_of, read_captions
from hookscope.dashboard.asking.questions import PredictionOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.toolbar import targets
from hookscope.dashboard.sources.hugging_face_texts import CaptionError
from hookscope.dashboard.sources.load import LoadedModel, load
from hookscope.dashboard.web.ask import not_to_be_had
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.outputs import Scores

ROWS, COLUMNS = np.mgrid[:64, :64]
PICTURE = Image.fromarray(np.stack([COLUMNS * 4, 255 - ROWS * 4, ROWS * COLUMNS % 256], -1).astype(np.uint8))
CAPTIONS = "a red cat\na green dog\ncat"
KINDS: dict[str, tuple[Any, Any, str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "clip": (hf.CLIPModel, hf.CLIPProcessor, "softmax", lambda logits: logits.softmax(-1)),
    "siglip": (hf.SiglipModel, hf.SiglipProcessor, "sigmoid", torch.Tensor.sigmoid),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions")
    folders.write(folder, (folders.clip, folders.siglip, folders.clip_pictures))
    return folder


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest, place: Path) -> tuple[str, LoadedModel]:
    return request.param, load(ModelOptions(f"hf:{place / request.param}"), "cpu")


def scores_of(model: LoadedModel, captions: str) -> Scores:
    with model.about(captions) as asked, looking(reading=asked.info.answer.reading):
        return predict(asked.module, asked.prepare(PICTURE).tensor)


def by_hand(place: Path, name: str, captions: list[str]) -> tuple[Any, Any]:
    """The whole model of transformers, and what its own processor makes of texts and picture."""
    kind, processor_kind, *_ = KINDS[name]
    model = kind.from_pretrained(place / name, local_files_only=True).eval()
    images = hf.AutoImageProcessor.from_pretrained(place / name, local_files_only=True)
    processor = processor_kind(images, folders.tokenizer())
    given = processor(text=captions, images=PICTURE, return_tensors="pt", padding="max_length")
    return model, {each: given[each] for each in ("pixel_values", "input_ids", "attention_mask")}


def test_typed_captions_score_as_the_whole_model_does(opened: tuple[str, LoadedModel], place: Path) -> None:
    name, model = opened
    *_, reads, share = KINDS[name]
    plain, given = by_hand(place, name, CAPTIONS.split("\n"))
    with torch.no_grad():
        right = plain(**given).logits_per_image[0]
    scores = scores_of(model, CAPTIONS)
    np.testing.assert_allclose(scores.logits, right, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.shares, share(right), atol=1e-5)
    info = model.info.about(CAPTIONS)
    assert scores.reads == reads == info.answer.reading.reads and info.classes == tuple(CAPTIONS.split("\n"))
    # and in another order, with one more
    other = scores_of(model, "cat\na dog\na red cat")
    np.testing.assert_allclose(other.logits[[2, 0]], right[[0, 2]], rtol=1e-5, atol=1e-5)


def test_a_caption_is_explained_by_its_own_score(opened: tuple[str, LoadedModel], place: Path) -> None:
    """Grad-CAM of the last patches: against the gradient of `logits_per_image` in the whole model."""
    name, model = opened
    plain, given = by_hand(place, name, CAPTIONS.split("\n"))
    layer = "model.vision_model.encoder.layers.0"
    kept: list[torch.Tensor] = []
    module = plain.get_submodule(layer.removeprefix("model."))
    handle = module.register_forward_hook(lambda *each: kept.append(nested_first(each[2])))
    output = plain(**given)
    handle.remove()
    for index in (0, 1):
        logit = output.logits_per_image[0, index]
        (slopes,) = torch.autograd.grad(logit, kept[0], retain_graph=True)
        tokens = slice(1, None) if name == "clip" else slice(None)
        values, slopes = kept[0][0, tokens].detach(), slopes[0, tokens]
        right = (values * slopes.mean(0)).sum(1).reshape(4, 4)
        with model.about(CAPTIONS) as asked, looking(reading=asked.info.answer.reading):
            found = layer_map(asked.module, asked.prepare(PICTURE).tensor, layer, index)
        np.testing.assert_allclose(found.values, right, atol=1e-5)
        assert found.logit == pytest.approx(float(logit.detach()), abs=1e-5) and found.target == index


def nested_first(value: Any) -> torch.Tensor:
    found: torch.Tensor = value if isinstance(value, torch.Tensor) else value[0]
    return found


def test_after_a_question_the_model_is_as_it_was(opened: tuple[str, LoadedModel]) -> None:
    _, model = opened
    before = scores_of(model, "")
    with model.about("cat") as outer, looking(reading=outer.info.answer.reading):
        inside = scores_of(model, "a dog\ncat")  # asked in between
        nothing = scores_of(model, "")
        still = predict(outer.module, outer.prepare(PICTURE).tensor)
    assert len(inside.logits) == 2 and len(still.logits) == 1
    assert still.logits[0] == pytest.approx(inside.logits[1], abs=1e-6)
    assert before.reads == nothing.reads == "embedding" and np.array_equal(before.numbers, nothing.numbers)
    assert (
        np.array_equal(scores_of(model, "").numbers, before.numbers) and model.info.answer.reading.reads == "embedding"
    )


def test_a_caption_that_the_model_would_cut_is_refused(opened: tuple[str, LoadedModel]) -> None:
    with pytest.raises(CaptionError, match=r"^Caption 2 has 40 tokens, and the model reads 16\. Shorten it: “cat cat"):
        scores_of(opened[1], "a dog\n" + "cat " * 40)


def test_a_caption_that_ends_the_text_by_itself_is_refused(opened: tuple[str, LoadedModel]) -> None:
    """The model would be asked about what stands before it, and the page would show all of it."""
    with pytest.raises(CaptionError, match=r"^Caption 2 holds '</s>', which has a meaning of its own to this model"):
        scores_of(opened[1], "a dog\na red cat </s> dog green")


def test_the_operators_captions_stay_until_others_are_typed(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text("a red cat\na dog\n")
    model = load(ModelOptions(f"hf:{place / 'clip'}", labels=str(path)), "cpu")
    assert model.info.about("").classes == ("a red cat", "a dog") and model.info.compares()
    own = scores_of(model, "")
    typed = scores_of(model, "a dog\ncat\na red cat")
    np.testing.assert_allclose(typed.logits[[2, 0]], own.logits, atol=1e-5)
    path.write_text("a green cat\na dog\n")  # as many, and other answers: kept ones are not shown for them
    assert (
        load(ModelOptions(f"hf:{place / 'clip'}", labels=str(path)), "cpu").info.fingerprint != model.info.fingerprint
    )


def test_another_tokenizer_is_another_model(place: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(place / "clip", tmp_path / "clip")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"cat": 5', '"cat": 7').replace('"dog": 7', '"dog": 5'))
    one, other = (load(ModelOptions(f"hf:{each}", name="clip"), "cpu") for each in (place / "clip", folder))
    np.testing.assert_allclose(scores_of(other, "dog\ncat").logits, scores_of(one, "cat\ndog").logits, atol=1e-6)
    assert one.info.fingerprint != other.info.fingerprint


# --- models without


def test_without_a_text_side_it_says_so(place: Path) -> None:
    info = load(ModelOptions(f"hf:{place / 'clip_pictures'}"), "cpu").info
    assert info.captioned == "" and info.answer.reading.reads == "embedding"
    said = "CLIPVisionModelWithProjection is the picture's side alone: it has no text side for captions."
    assert any(said in note for note in info.notes) and info.about(CAPTIONS) is info


def test_without_a_tokenizer_it_says_so(place: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(place / "clip", tmp_path / "clip", ignore=shutil.ignore_patterns("tokenizer*"))
    info = load(ModelOptions(f"hf:{folder}"), "cpu").info
    said = "It has no tokenizer that can be read (tokenizer.json), so it takes no captions."
    assert info.captioned == "" and any(said in note for note in info.notes)


def test_without_weights_of_the_text_side_it_says_so(place: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(place / "clip", tmp_path / "clip")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("text_")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    info = load(ModelOptions(f"hf:{folder}"), "cpu").info
    assert info.captioned == "" and any("Its text side is not in the file" in note for note in info.notes)
    assert not info.random_part  # what is looked at is not random


# --- what a browser or an address may hold


def test_captions_are_lines_without_what_cannot_be_seen() -> None:
    assert read_captions(" a\x00 red\u202e  cat \r\n\n\ta dog\x1b[31m\na red cat") == "a red cat\na dog[31m"
    assert read_captions("a\u2028b\x0bc\x85d") == "a b c d"
    assert read_captions("<img src=x onerror=alert(1)>") == "<img src=x onerror=alert(1)>"  # text, and drawn as such
    for nothing in (None, 3, ["a"], {"a": 1}, "", " \n \r\n\x07", "\ud800"):
        assert read_captions(nothing) == ""
    assert each_of("") == () and each_of("a\nb") == ("a", "b")


def test_captions_are_bounded() -> None:
    many = read_captions("\n".join(f"caption {index} " + "x" * 10_000 for index in range(1000)))
    assert len(each_of(many)) == 3  # the rest of so much is not even read
    found = each_of(read_captions("\n".join(f"{index} " + "x" * 300 for index in range(40))))
    assert len(found) == MOST and all(len(each) == LONGEST for each in found)


def test_captions_are_in_the_address_and_read_again() -> None:
    view = View.from_dict({"captions": "a red cat\n<b>", "captions_b": "ein Hund & Käse"})
    assert View.from_query("?" + view.to_query()) == view and view.captions == "a red cat\n<b>"
    assert "captions=a+red+cat%0A%3Cb%3E" in view.to_query()
    assert View.from_dict({"captions": [1]}) == View()


def test_they_are_in_the_key_of_what_is_about_the_answer() -> None:
    side = Side("clip", "0" * 64)
    plain, typed, other = (Unit(replace(side, captions=each), PredictionOf()) for each in ("", "a", "b"))
    assert len({each.key("f") for each in (plain, typed, other)}) == 3 and not plain.alike(typed)


def test_a_target_beyond_the_captions_is_given_up(opened: tuple[str, LoadedModel]) -> None:
    info = opened[1].info
    view = View().but(model="m", a="x", captions=CAPTIONS, target="2")
    assert not_to_be_had(view, {"m": info}, moved=False) == {}
    assert not_to_be_had(view.but(target="3"), {"m": info}, moved=False) == {"target": ""}
    assert not_to_be_had(view.but(captions=""), {"m": info}, moved=False) == {"target": ""}
    labels = [each["label"] for each in targets(info.about(CAPTIONS))]
    assert labels == ["top caption", "caption: a red cat", "caption: a green dog", "caption: cat"]


def test_a_program_gives_captions_a_line_each(place: Path, tmp_path: Path) -> None:
    spec = f"hf:{place / 'clip'}"
    page = Page(tmp_path, spec, load=1)
    try:
        file = io.BytesIO()
        PICTURE.save(file, "PNG")
        key = page.inputs.receive(io.BytesIO(file.getvalue()), None, "drawn.png").key

        def ask(path: str, **given: Any) -> Any:
            return page.client.get(f"/api/v1/{path}", query_string=given)

        assert ask("model").json["captions"] == "softmax"
        plain, given = by_hand(place, "clip", CAPTIONS.split("\n"))
        with torch.no_grad():
            right = plain(**given).logits_per_image[0]
        told = ask("top", input=key, captions=CAPTIONS).json
        assert told["captions"] == CAPTIONS.split("\n") and told["reads"] == "softmax" and told["classes"] == 3
        best = int(right.argmax())
        assert told["top"][0]["class"] == CAPTIONS.split("\n")[best] and told["top"][0]["index"] == best
        assert told["top"][0]["logit"] == pytest.approx(float(right[best]), rel=1e-4)
        assert told["top"][0]["share"] == pytest.approx(float(right.softmax(-1)[best]), abs=1e-4)
        layer = next(row["layer"] for row in ask("layers", match="conv").json["layers"])
        cam = ask("cam.json", input=key, captions=CAPTIONS, layer=layer, **{"class": 1}).json
        assert cam["class_name"] == "a green dog" and cam["logit"] == pytest.approx(float(right[1]), rel=1e-4)

        assert "Give some as captions" in ask("top", input=key).json["error"]
        for wrong in ("", "\n", "a\n\nb", "a\na", "\n".join(map(str, range(17))), "x" * 201):
            refused = ask("top", input=key, captions=wrong)
            assert refused.status_code == 400 and "each on a line of its own" in refused.json["error"], wrong
        assert "takes one picture" in ask("top", input=key, second=key).json["error"]
        assert "no such parameter" in ask("layer", input=key, layer=layer, captions="a").json["error"]
    finally:
        page.close()
