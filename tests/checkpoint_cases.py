"""Files of weights, good, damaged and hostile: what each has to become, or the reason why it is refused.

The network that they are for is `net()`. Whatever runs out of a file makes a folder named `SENTINEL`.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import struct
import subprocess
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

SENTINEL = "it-ran"
State = dict[str, Tensor]


def net() -> nn.Sequential:
    """A small network, the same every time."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@dataclass(frozen=True)
class Good:
    """A file that is read: the bytes, and the weights that the network has afterwards."""

    name: str
    file: str
    data: bytes
    weights: State


@dataclass(frozen=True)
class Bad:
    """A file that is refused, and a part of the sentence."""

    name: str
    file: str
    data: bytes
    reason: str


class Gadget:
    """A pickle of this calls a function when it is read."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


class Rebuilt:
    """A pickle of this is built empty and then given a state, which may be anything."""

    def __reduce__(self) -> tuple[Any, ...]:
        return nn.Sequential, (), {"training": Gadget(os.mkdir, SENTINEL)}


def pt(content: object, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def edited(data: bytes, old: bytes, new: bytes) -> bytes:
    """A .pt file with something else in its pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for record in source.infolist():
            content = source.read(record)
            if record.filename.endswith("data.pkl"):
                assert old in content
                content = content.replace(old, new)
            target.writestr(record.filename, content)
    return out.getvalue()


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors file by hand."""
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(packed) if length is None else length) + packed + data


def good() -> list[Good]:
    """The ways in which people save weights."""
    state = net().state_dict()
    prefixed = {f"module.{name}": value for name, value in state.items()}
    compiled = {f"module._orig_mod.{name}": value for name, value in state.items()}
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    brain = {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()}
    double = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    untracked = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    holes = {**state, "3.bias": torch.tensor([float("nan"), float("inf")])}
    whole = torch.cat([value.flatten().float() for value in state.values()])
    views, start = {}, 0
    for name, value in state.items():
        views[name] = whole[start : start + value.numel()].view(value.shape) if value.is_floating_point() else value
        start += value.numel()
    last = {
        name: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value for name, value in state.items()
    }
    on_gpu = edited(pt(state), b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:7")
    trained = {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1, "steps": [1, 2]}, "args": {"name": "x"}}

    def single(values: State) -> State:
        return {name: value.to(state[name].dtype) for name, value in values.items()}

    return [
        Good("safetensors", "w.safetensors", save(state), state),
        Good("torch", "w.pt", pt(state), state),
        Good("torch before 1.6", "w.pth", pt(state, _use_new_zipfile_serialization=False), state),
        Good("another ending", "w.bin", pt(state), state),
        Good("safetensors under another name", "w.pt", save(state), state),
        Good("torch under another name", "w.safetensors", pt(state), state),
        Good("nested under state_dict, with what training kept", "w.pt", pt(trained), state),
        Good("nested under model", "w.pt", pt({"model": state}), state),
        Good("nested twice", "w.pt", pt({"model": {"state_dict": state}}), state),
        Good("prefix module.", "w.pt", pt(prefixed), state),
        Good("prefix module._orig_mod.", "w.safetensors", save(compiled), state),
        Good("float16", "w.pt", pt(half), single(half)),
        Good("bfloat16", "w.safetensors", save(brain), single(brain)),
        Good("float64", "w.pt", pt(double), state),
        Good("parameters", "w.pt", pt({**state, **dict(net().named_parameters())}), state),
        Good("views of one tensor", "w.pt", pt(views), state),
        Good("channels last", "w.pt", pt(last), state),
        Good("saved from a GPU that is not here", "w.pt", on_gpu, state),
        Good("without counts of batches", "w.pt", pt(untracked), state),
        Good("NaN and infinity", "w.pt", pt(holes), holes),
    ]


def code() -> list[Bad]:
    """Files that hold code, in every place where a reader could run it."""
    reason = "holds Python objects"
    mkdir = Gadget(os.mkdir, SENTINEL)
    touch = f"import os; os.mkdir({SENTINEL!r})"
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.ReLU()), script)
    state = net().state_dict()
    found = [
        Bad("os.mkdir", "w.pt", pt(mkdir), reason),
        Bad("os.system", "w.pt", pt({"state_dict": Gadget(os.system, f"mkdir {SENTINEL}")}), reason),
        Bad("exec", "w.pt", pt({**state, "x": Gadget(exec, touch)}), reason),
        Bad("eval", "w.pth", pt({**state, "x": Gadget(eval, "__import__('os').mkdir('it-ran')")}), reason),
        Bad("subprocess", "w.ckpt", pt([Gadget(subprocess.Popen, ["mkdir", SENTINEL])]), reason),
        Bad("getattr", "w.pt", pt(Gadget(getattr, "text", "format")), reason),
        Bad("torch.load inside", "w.pt", pt(Gadget(torch.load, "other.pt")), reason),
        Bad("a state that is code", "w.pt", pt(Rebuilt()), reason),
        Bad("under a name that sounds safe", "w.safetensors", pt(mkdir), reason),
        Bad("before torch 1.6", "w.pt", pt(mkdir, _use_new_zipfile_serialization=False), reason),
        Bad("a whole model", "w.pt", pt(net()), "is a whole model (torch.nn.modules.container.Sequential)"),
        Bad("a whole model, nested", "w.pt", pt({"model": net(), "epoch": 1}), "is a whole model (torch.nn."),
        Bad("TorchScript", "w.pt", script.getvalue(), "is a TorchScript program"),
        Bad("objects of NumPy", "w.pt", pt({"w": np.array([mkdir], dtype=object)}), reason),
    ]
    for protocol in (2, 4):
        data = pickle.dumps(mkdir, protocol)
        found.append(Bad(f"a plain pickle of protocol {protocol}", "w.pkl", data, reason))
    found.append(Bad("a plain pickle of protocol 0", "w.pkl", pickle.dumps(mkdir, 0), reason))
    return found


def bombs() -> list[Bad]:
    """Small files that would become large."""
    one = pt({"a": torch.ones(4)})
    bomb, shared = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(one)) as source:
        records = {record.filename: source.read(record) for record in source.infolist()}
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, content in records.items():
            file.writestr(name, bytes(300_000_000) if name.endswith("data/0") else content)
    with zipfile.ZipFile(shared, "w") as file:
        for name, content in records.items():
            file.writestr(name, bytes(100_000) if name.endswith("data/0") else content)
        large = next(record for record in file.filelist if record.file_size == 100_000)
        for number in range(1, 500):
            again = copy.copy(large)
            again.filename = large.filename.replace("data/0", f"data/{number}")
            file.filelist.append(again)
    many = b"\x8a\x06" + (40 * 10**9).to_bytes(6, "little")  # 160 GB of float32
    size, old_size = b"K\x00K\x04\x85q\x08K\x01\x85q\x09", b"K\x04tq\x07"
    legacy = pt({"a": torch.ones(4)}, _use_new_zipfile_serialization=False)
    claims = legacy.replace(b"K\x04N", many + b"N", 1)
    assert claims != legacy
    pairs = b"".join(b"q%ch%c\x86" % (number, number) for number in range(60))  # each holds the one before twice
    return [
        Bad(
            "stride 0, 160 GB",
            "w.pt",
            edited(one, size, b"K\x00" + many + b"\x85q\x08K\x00\x85q\x09"),
            "repeats its values",
        ),
        Bad("a tensor larger than the file", "w.pt", edited(one, old_size, many + b"tq\x07"), "may be damaged or cut"),
        Bad("the same, before torch 1.6", "w.pt", claims, "may be damaged or cut"),
        Bad("a packed record", "w.pt", bomb.getvalue(), "packed in a way that torch never writes"),
        Bad("records that share their bytes", "w.pt", shared.getvalue(), "packed in a way that torch never writes"),
        Bad("2 to the 60th of nothing", "w.pt", b"\x80\x02K\x01" + pairs + b".", "w.pt"),
        Bad("bytes by the terabyte", "w.pt", pt({"x": Gadget(bytearray, 10**12)}), "w.pt"),
        Bad("safetensors of 2 ** 62 bytes", "w.safetensors", safetensors({}, length=2**62), "may be damaged or cut"),
        Bad(
            "safetensors of 160 GB",
            "w.safetensors",
            safetensors({"a": {"dtype": "F32", "shape": [40 * 10**9], "data_offsets": [0, 160 * 10**9]}}),
            "may be damaged or cut",
        ),
    ]


def not_dense() -> list[Bad]:
    """Tensors that a model cannot take as they are."""
    state = net().state_dict()

    def with_weight(value: Tensor) -> bytes:
        return pt({**state, "3.weight": value})

    weight = state["3.weight"]
    quantized = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    packed = weight.mul(10).to(torch.int8)
    return [
        Bad("sparse", "w.pt", with_weight(weight.to_sparse()), "'3.weight' in it is sparse or nested"),
        Bad("sparse by rows", "w.pt", with_weight(weight.to_sparse_csr()), "'3.weight' in it is sparse or nested"),
        Bad("nested", "w.pt", with_weight(torch.nested.nested_tensor([weight[0], weight[1]])), "holds Python objects"),
        Bad("quantized", "w.pt", with_weight(quantized), "'3.weight' in it is quantized"),
        Bad("without values", "w.pt", with_weight(weight.to("meta")), "has a shape and no values"),
        Bad("not yet known", "w.pt", pt(nn.LazyLinear(2).state_dict()), "w.pt"),
        Bad("complex", "w.pt", with_weight(weight.to(torch.complex64)), "3.weight is complex64 in the file"),
        Bad("whole numbers", "w.pt", with_weight(packed), "3.weight is int8 in the file and float32 in the model"),
        Bad("repeated", "w.pt", with_weight(torch.ones(1, 1).expand(2, 4)), "repeats its values"),
    ]


def unfit() -> list[Bad]:
    """Weights, and not this model's."""
    state = net().state_dict()
    wider = {**state, "3.weight": torch.zeros(5, 4)}
    fewer = {name: value for name, value in state.items() if name != "3.bias"}
    more = {**state, "4.weight": torch.zeros(1)}
    endless: dict[str, Any] = {"epoch": 3}
    endless["model"] = endless
    return [
        Bad("another shape", "w.pt", pt(wider), "3.weight is 5 x 4 in the file and 2 x 4 in the model"),
        Bad("one is missing", "w.safetensors", save(fewer), "1 missing (3.bias)"),
        Bad("one too many", "w.pt", pt(more), "1 without a place in the model (4.weight)"),
        Bad("another model's", "w.pt", pt(nn.LSTM(2, 2).state_dict()), "Check that the file belongs to this model"),
        Bad("a single tensor", "w.pt", pt(state["3.weight"]), "holds no weights, but Tensor"),
        Bad(
            "a list of tensors",
            "w.pt",
            pt(list(state.values())),
            "holds no weights, but a list of tensors without names",
        ),
        Bad("a number", "w.pt", pt(7), "holds no weights, but int"),
        Bad("a dictionary in itself", "w.pt", pt(endless), "holds no weights, but a dict"),
        Bad("an empty dictionary", "w.pt", pt({}), "holds no weights, but dict"),
        Bad("no tensors in safetensors", "w.safetensors", safetensors({}), "holds no weights, but dict"),
    ]


def no_weights() -> list[Bad]:
    """Files that are something else, or a part of it."""
    state = net().state_dict()
    torchs, legacy, safe = pt(state), pt(state, _use_new_zipfile_serialization=False), save(state)
    archive, tar, npz, npy = (io.BytesIO() for _ in range(4))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "weights are elsewhere")
    with tarfile.open(fileobj=tar, mode="w") as old:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = pickle.dumps(Gadget(os.mkdir, SENTINEL), 2)
            record = tarfile.TarInfo(name)
            record.size = len(content)
            old.addfile(record, io.BytesIO(content))
    np.savez(npz, w=np.ones(3))
    np.save(npy, np.ones(3))
    damaged = "may be damaged or cut"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    row = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return [
        Bad("empty", "w.pt", b"", "is empty"),
        Bad("empty safetensors", "w.safetensors", b"", "is empty"),
        *(
            Bad(f"torch, {share} % of it", "w.pt", torchs[: len(torchs) * share // 100], damaged)
            for share in (10, 50, 95)
        ),
        *(
            Bad(f"before torch 1.6, {n} % of it", "w.pt", legacy[: len(legacy) * n // 100], damaged)
            for n in (5, 50, 95)
        ),
        *(
            Bad(f"safetensors, {n} % of it", "w.safetensors", safe[: len(safe) * n // 100], damaged)
            for n in (1, 50, 95)
        ),
        Bad("text", "w.pt", b"these are the weights\n", "is a text and holds no weights"),
        Bad("text as safetensors", "w.safetensors", b"these are the weights\n", damaged),
        Bad("a pointer of Git LFS", "w.safetensors", pointer, "run `git lfs pull`"),
        Bad("a web page", "w.pt", b"<!DOCTYPE html><title>404</title>", "is a web page"),
        Bad("an archive", "w.pt", archive.getvalue(), "is an archive and no file of torch's"),
        Bad("an archive of NumPy's", "w.npz", npz.getvalue(), "is an archive of NumPy arrays"),
        Bad("an array of NumPy's", "w.npy", npy.getvalue(), "is a single NumPy array"),
        Bad("gzip", "w.pt.gz", b"\x1f\x8b\x08" + zlib.compress(torchs), "is compressed"),
        Bad("GGUF", "w.gguf", b"GGUF\x03\0\0\0" + bytes(64), "is a GGUF file"),
        Bad("Keras", "w.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file"),
        Bad("torch before 2017", "w.tar", tar.getvalue(), "is of a format that torch left in 2017"),
        Bad("zeros", "w.pt", bytes(1000), damaged),
        Bad("no JSON", "w.safetensors", safetensors(b"{not json" + b" " * 55), damaged),
        Bad("a list", "w.safetensors", safetensors([1, 2], bytes(8)), damaged),
        Bad("no such type", "w.safetensors", safetensors({"a": {**row, "dtype": "F99"}}, bytes(8)), damaged),
        Bad("overlapping", "w.safetensors", safetensors({"a": row, "b": row}, bytes(8)), damaged),
        Bad("a hole", "w.safetensors", safetensors({"a": {**row, "data_offsets": [8, 16]}}, bytes(16)), damaged),
        Bad("beyond the end", "w.safetensors", safetensors({"a": {**row, "data_offsets": [0, 80]}}, bytes(8)), damaged),
        Bad("another length", "w.safetensors", safetensors({"a": {**row, "shape": [3]}}, bytes(8)), damaged),
        Bad("backwards", "w.safetensors", safetensors({"a": {**row, "data_offsets": [8, 0]}}, bytes(8)), damaged),
        Bad("a negative shape", "w.safetensors", safetensors({"a": {**row, "shape": [-2]}}, bytes(8)), damaged),
    ]


with warnings.catch_warnings(action="ignore"):  # torch's, of kinds of tensors that are new, old or on their way out
    GOOD = good()
    BAD = [*code(), *bombs(), *not_dense(), *unfit(), *no_weights()]
