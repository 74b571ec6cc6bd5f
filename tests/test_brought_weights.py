"""Files of weights as trainers write them: what becomes of each, and what is said of it."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import pathlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brought_models import Net
from checkpoint_cases import pt
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torchvision import models

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.settings.parse import parse
from hookscope.dashboard.sources import checkpoints
from hookscope.dashboard.sources.file_kinds import WeightsError
from hookscope.dashboard.sources.fitting import Filled, fill
from hookscope.dashboard.sources.load import load

State = dict[str, Tensor]


class Normed(Net):
    """A net with buffers, as most have."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__(outputs)
        self.norm = nn.BatchNorm2d(6)


def state_of(shift: float = 0.0) -> State:
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.rand(value.shape, generator=generator) + shift if value.is_floating_point() else value
        for name, value in Normed().state_dict().items()
    }


STATE, AVERAGED = state_of(), state_of(0.5)


def behind(prefix: str, state: State = STATE) -> State:
    return {prefix + name: value for name, value in state.items()}


LIGHTNING = {
    "epoch": 4,
    "pytorch-lightning_version": "2.4.0",
    "optimizer_states": [{"state": {0: {"m": torch.ones(3)}}}],
}
LOSS = {"criterion.pos_weight": torch.tensor([3.2])}


def filled(path: Path, right: State = STATE, wanted: str = "") -> Filled:
    module = Normed()
    found = fill(module, checkpoints.read(path), path.name, wanted)
    for name, value in module.state_dict().items():
        assert torch.equal(value, right[name]), name
    return found


@pytest.mark.parametrize(
    ("content", "sentence", "note"),
    [
        ({**LIGHTNING, "state_dict": behind("model.")}, "From w.pt (state_dict.model).", ""),
        ({**LIGHTNING, "state_dict": {**behind("model."), **LOSS}}, "From w.pt (state_dict.model).",
         "1 left out: criterion.pos_weight."),
        ({**LIGHTNING, "state_dict": {**LOSS, **behind("net.")}}, "From w.pt (state_dict.net).",
         "1 left out: criterion.pos_weight."),
        (behind("_forward_module."), "From w.pt (_forward_module).", ""),
        (behind("module._orig_mod."), "From w.pt (module._orig_mod).", ""),
        ({"params": STATE}, "From w.pt (params).", ""),
        ({"module": STATE, "ds_version": "0.16"}, "From w.pt (module).", ""),
        ({"a": {"b": {"c": {"d": behind("e.f.")}}}}, "From w.pt (a.b.c.d.e.f).", ""),
        ({"epoch": 9, "state_dict": STATE, "state_dict_ema": AVERAGED}, "From w.pt (state_dict).",
         "The file holds state_dict_ema too: --weights w.pt#state_dict_ema shows it."),
        ({"ema": AVERAGED, "model": STATE}, "From w.pt (model).",
         "The file holds ema too: --weights w.pt#ema shows it."),
        ({"teacher": AVERAGED, "student": STATE}, "From w.pt (student).",
         "The file holds teacher too: --weights w.pt#teacher shows it."),
        ({**behind("ema_model.", AVERAGED), **behind("model.")}, "From w.pt (model).", None),
        ({**STATE, **behind("ema.", AVERAGED)}, "From w.pt.", None),
        ({"ema": AVERAGED | {"extra": torch.ones(1)}, "model": STATE}, "From w.pt (model).", ""),
    ],
)  # fmt: skip
def test_weights_are_found_wherever_a_trainer_put_them(
    tmp_path: Path, content: Any, sentence: str, note: str | None
) -> None:
    (tmp_path / "w.pt").write_bytes(pt(content))
    found = filled(tmp_path / "w.pt")
    assert found.sentence == sentence and found.head == ""
    assert found.note == note or note is None
    if note is None:
        assert "left out" in found.note and "ema" in found.note


def test_a_first_weight_whose_name_stands_within_blocks_too_is_no_prefix(tmp_path: Path) -> None:
    """A ResNet begins with conv1, and so does each of its blocks."""
    model = models.resnet18(weights=None)
    for prefix in ("", "module."):
        (tmp_path / "w.pt").write_bytes(pt({f"{prefix}{name}": value for name, value in model.state_dict().items()}))
        other = models.resnet18(weights=None)
        assert fill(other, checkpoints.read(tmp_path / "w.pt"), "w.pt").unexpected == ()
        assert all(map(torch.equal, other.state_dict().values(), model.state_dict().values()))


def test_the_other_set_of_a_file_is_taken_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pt({"state_dict": STATE, "state_dict_ema": AVERAGED}))
    found = filled(tmp_path / "w.pt", AVERAGED, "state_dict_ema")
    assert found.sentence == "From w.pt (state_dict_ema)." and "--weights w.pt#state_dict shows it" in found.note
    with pytest.raises(WeightsError, match=r"w\.pt holds no 'best', but state_dict, state_dict_ema\. Choose one"):
        filled(tmp_path / "w.pt", STATE, "best")
    (tmp_path / "only.pt").write_bytes(pt({"ema": AVERAGED}))
    assert filled(tmp_path / "only.pt", AVERAGED).sentence == "From only.pt (ema)."


def sharded(folder: Path) -> None:
    names = list(STATE)
    where = {}
    for number, part in enumerate((names[:3], names[3:]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: STATE[name] for name in part}, folder / file)
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.parametrize("name", ["", "model.safetensors.index.json", "model-00002-of-00002.safetensors"])
def test_shards_are_read_through_their_folder_their_index_or_one_of_them(tmp_path: Path, name: str) -> None:
    sharded(tmp_path)
    filled(tmp_path / name)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-00001-of-00002.safetensors"):
        filled(tmp_path / name)


@pytest.mark.parametrize(
    ("index", "part"),
    [
        ({"weight_map": {"a": "../secret.safetensors"}}, "names a file in another folder"),
        ({"weight_map": {"a": "/etc/passwd"}}, "names a file in another folder"),
        ({"weight_map": {"a": "none.safetensors"}}, "needs none.safetensors, which is not beside it"),
        ({"weight_map": [1, 2]}, "is no index of weights"),
        ([], "is no index of weights"),
    ],
)
def test_an_index_reads_nothing_but_what_lies_beside_it(tmp_path: Path, index: Any, part: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=part):
        checkpoints.read(tmp_path / "model.safetensors.index.json")


def test_a_folder_with_one_file_is_that_file_and_others_are_asked_about(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no file of weights"):
        checkpoints.read(tmp_path)
    (tmp_path / "best.pt").write_bytes(pt(STATE))
    filled(tmp_path)
    (tmp_path / "last.pt").write_bytes(pt(AVERAGED))
    with pytest.raises(WeightsError, match=r"holds 2 files of weights \(best.pt, last.pt\)"):
        checkpoints.read(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_pruned_and_normalised_weights_are_multiplied_out(tmp_path: Path) -> None:
    module = Normed()
    prune.l1_unstructured(module.conv, "weight", 0.5)
    (tmp_path / "pruned.pt").write_bytes(pt(module.state_dict()))
    right = dict(STATE)
    plain = Normed()
    fill(plain, checkpoints.read(tmp_path / "pruned.pt"), "pruned.pt")
    assert torch.equal(plain.conv.weight, module.conv.weight) and (plain.conv.weight == 0).float().mean() == 0.5
    older = torch.nn.utils.weight_norm  # which warns that it is the older one
    for normalise in (parametrizations.weight_norm, older):
        normed = Normed()
        normed.load_state_dict(right)
        normalise(normed.conv)
        with torch.no_grad():
            next(p for name, p in normed.conv.named_parameters() if "weight_g" in name or "original0" in name).mul_(3)
            normed(torch.zeros(1, 3, 16, 16))  # the older one computes its weight as it runs
        (tmp_path / "normed.pt").write_bytes(pt(normed.state_dict()))
        plain = Normed()
        fill(plain, checkpoints.read(tmp_path / "normed.pt"), "normed.pt")
        assert torch.allclose(plain.conv.weight, normed.conv.weight, atol=1e-6)
        assert torch.allclose(plain.conv.weight, right["conv.weight"] * 3, atol=1e-5)
        again = Normed()
        normalise(again.conv)
        fill(again, checkpoints.read(tmp_path / "normed.pt"), "normed.pt")  # a model that has them so keeps them so
        assert set(again.state_dict()) == set(normed.state_dict())


def test_a_last_layer_of_another_size_is_told_with_both_shapes_or_left_random(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pt(STATE))
    sets = checkpoints.read(tmp_path / "w.pt")
    with pytest.raises(WeightsError) as caught:
        fill(Normed(5), sets, "w.pt")
    assert "but for its last layer: fc.weight is 3 x 6 in the file and 5 x 6 in the model" in str(caught.value)
    assert "--factory-arg num_classes=3" in str(caught.value) and "--allow-head" in str(caught.value)
    module = Normed(5)
    before = module.fc.weight.clone()
    found = fill(module, sets, "w.pt", allow_head=True)
    assert found.head == "fc" and found.sentence == "From w.pt, but for fc, which is random."
    assert torch.equal(module.fc.weight, before) and torch.equal(module.conv.weight, STATE["conv.weight"])


@pytest.mark.parametrize(
    "changed",
    [
        {"conv.weight": torch.zeros(6, 3, 7, 7)},
        {"conv.weight": torch.zeros(9, 3, 5, 5), "fc.weight": torch.zeros(4, 6)},
        {"norm.weight": torch.zeros(7)},
        {"fc.weight": torch.zeros(3, 9)},
    ],
)
def test_the_number_of_classes_is_not_blamed_for_what_it_did_not_do(tmp_path: Path, changed: State) -> None:
    (tmp_path / "w.pt").write_bytes(pt(STATE | changed))
    with pytest.raises(WeightsError) as caught:
        fill(Normed(), checkpoints.read(tmp_path / "w.pt"), "w.pt", allow_head=True)
    assert "do not fit Normed" in str(caught.value) and "num_classes" not in str(caught.value)


# --- what stands beside the weights


class NotOurs:
    """Stands in a file under a name that nobody allowed."""


def stands_for(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An object whose pickle asks for a class of this name, which is not installed."""
    place, _, title = name.rpartition(".")
    kind = type(title, (), {"__module__": place, "__qualname__": title})
    parts = place.split(".")
    for length in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:length]), types.ModuleType(".".join(parts[:length])))
    setattr(sys.modules[place], title, kind)
    made = kind()
    made.__dict__.update(_content={"lr": 1e-3}, _flags=[1, 2])
    return made


@pytest.mark.parametrize("old", [False, True])
def test_what_trainers_save_beside_the_weights_is_read_as_nothing(
    tmp_path: Path, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = {
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs"), inner=argparse.Namespace(a=[1])),
        "best": np.float64(3.4),
        "accuracy": np.float32(0.5),
        "counts": np.arange(4),
        "dtype": np.dtype("float32"),
        "when": datetime.datetime(2026, 1, 1),
        "meters": collections.defaultdict(list, a=[1]),
        "classes": {1, 2},
        "config": stands_for("omegaconf.dictconfig.DictConfig", monkeypatch),
        "settings": stands_for("easydict.EasyDict", monkeypatch),
    }
    options = {"_use_new_zipfile_serialization": False} if old else {}
    (tmp_path / "w.pt").write_bytes(pt({"state_dict": STATE, **beside}, **options))
    for name in ("omegaconf", "omegaconf.dictconfig", "easydict"):
        monkeypatch.delitem(sys.modules, name)
    assert filled(tmp_path / "w.pt").sentence == "From w.pt (state_dict)."
    assert "omegaconf" not in sys.modules and "easydict" not in sys.modules  # nothing that a file names is imported
    assert not any("inert" in str(each) for each in torch.serialization.get_safe_globals())  # nor stays allowed


def test_any_other_name_is_refused_with_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = (stands_for("omegaconf.dictconfig.Evil", monkeypatch), np.frombuffer, argparse.ArgumentParser)
    for content, name in zip(beside, ("omegaconf.dictconfig.Evil", "numpy", "argparse.ArgumentParser"), strict=True):
        (tmp_path / "w.pt").write_bytes(pt({"state_dict": STATE, "beside": content}))
        with pytest.raises(WeightsError, match=rf"holds Python objects \({name}"):
            checkpoints.read(tmp_path / "w.pt")


# --- what is no file of weights


def onnx() -> bytes:
    """The beginning of a model as `torch.onnx.export` writes it: version, producer, its version, a graph."""
    return b"\x08\x08\x12\x07pytorch\x1a\x052.9.0:\x90\x01" + bytes(200)


def exported(tmp_path: Path) -> bytes:
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 3, 64, 64),)), tmp_path / "e.pt2")
    return (tmp_path / "e.pt2").read_bytes()


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (onnx(), r"is an ONNX model, whose layers are not PyTorch's: give the weights"),
        (exported, r"is a program of torch.export and not only weights. Save its weights"),
        (b"\x1c\0\0\0TFL3" + bytes(64), "is a TensorFlow Lite model"),
        (b"ftrt" + bytes(64), "is a TensorRT engine"),
        (b'<?xml version="1.0"?>\n<net name="x" version="11">', "is XML, as OpenVINO writes"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b'<?xml version="1.0"?><!DOCTYPE html><html>', "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "only points to the weights"),
    ],
)
def test_what_a_file_is_is_said_by_its_bytes(tmp_path: Path, data: Any, part: str) -> None:
    (tmp_path / "w.pth").write_bytes(data(tmp_path) if callable(data) else data)
    with pytest.raises(WeightsError, match=part):
        checkpoints.read(tmp_path / "w.pth")


@pytest.mark.parametrize("old", [False, True])
def test_a_whole_model_is_called_so_with_its_class(tmp_path: Path, old: bool) -> None:
    options = {"_use_new_zipfile_serialization": False} if old else {}
    (tmp_path / "w.pth").write_bytes(pt(Normed(), **options))
    with pytest.raises(WeightsError, match=r"w\.pth is a whole model \(test_brought_weights\.Normed\) and not only"):
        checkpoints.read(tmp_path / "w.pth")


# --- from the command line to the model


def test_a_folder_and_a_part_are_given_on_the_command_line(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "w.pt").write_bytes(pt({"state_dict": STATE, "state_dict_ema": AVERAGED}))
    for text in (f"{tmp_path}", f"{tmp_path}/w.pt#state_dict_ema", f"{tmp_path}/w.pt"):
        settings = parse(["--model", "my.nets:make", "--weights", text, "--allow-head"], {})
        assert settings.weights == (("my.nets:make", text),) and settings.allow_head
    options = ModelOptions(
        "brought_models:Net", arguments='{"outputs": 9}', weights=f"{tmp_path}/head.pt#model", allow_head=True
    )
    (tmp_path / "head.pt").write_bytes(save({f"model.{name}": value for name, value in Net(4).state_dict().items()}))
    info = load(options, "cpu").info
    assert info.weights == "From head.pt (model), but for fc, which is random."
    assert (info.reservation, info.random, info.random_part) == ("random head", False, "fc")
