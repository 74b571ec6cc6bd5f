"""What a file that somebody gives as weights is, by its bytes and not by its name; and what to give instead."""

from __future__ import annotations

import contextlib
import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import NoReturn

from hookscope.hooks.errors import HooksError

HEAD_BYTES = 512
_ALONE = (
    "Save the weights alone, where you trust it: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
)
PICKLE_BYTES = 1 << 20  # of a pickle are looked at: the names of its classes stand before its numbers
_KINDS = (
    (re.compile(rb"version https://git-lfs"), "only points to the weights: run `git lfs pull` to fetch them."),
    (
        re.compile(rb"\s*<\?xml(?!.{0,300}<html)", re.S),
        "is XML, as OpenVINO writes: give the PyTorch weights it was made from.",
    ),
    (re.compile(rb"\s*<"), "is a web page and not weights: download the file itself."),
    (re.compile(rb"GGUF"), "is a GGUF file, which is not read: give the .safetensors file it was made from."),
    (re.compile(rb"\x89HDF"), "is an HDF5 file, as Keras writes, and holds no PyTorch weights: give those."),
    (re.compile(rb"\x93NUMPY"), "is a single NumPy array: save model.state_dict() as .safetensors and give that."),
    (re.compile(rb"....TFL3", re.S), "is a TensorFlow Lite model: give the PyTorch weights it was made from."),
    (re.compile(rb"ftrt|ptrt"), "is a TensorRT engine, made for one GPU: give the PyTorch weights it was made from."),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!"), "is compressed: unpack it and give what is inside."),
    (
        # its version, and then a text or a graph
        re.compile(rb"\x08[\x01-\x20](?:\x10.)?[\x12\x1a\x22\x2a\x32\x3a\x42]", re.S),
        "is an ONNX model, whose layers are not PyTorch's: give the weights that it was exported from.",
    ),
)  # fmt: skip


class WeightsError(HooksError):
    """The weights cannot be had, or do not fit the model."""


def is_other_kind(head: bytes) -> bool:
    """Whether a file begins as one of those that hold no weights for torch."""
    return any(pattern.match(head) for pattern, _ in _KINDS)


def refuse_other_kind(path: Path, head: bytes) -> None:
    """Refuse a file that holds no weights for torch, by its first bytes.

    Raises:
        WeightsError: what it is, and what to give instead.
    """
    for pattern, what in _KINDS:
        if pattern.match(head):
            raise WeightsError(f"{path.name} {what}")
    if head[257:262] == b"ustar":
        raise WeightsError(f"{path.name} is of a format that torch left in 2017. {_ALONE}")


def refuse_other_archive(path: Path, names: set[str]) -> None:
    """Refuse a zip archive that is none of torch's, by the names of its records below their common folder.

    Raises:
        WeightsError: what it is, and what to give instead.
    """
    if "constants.pkl" in names:
        raise WeightsError(f"{path.name} is a TorchScript program and not only weights, so it is not opened. {_ALONE}")
    if {"archive_format", "models/model.json", "serialized_exported_program.json"} & names:
        raise WeightsError(
            f"{path.name} is a program of torch.export and not only weights. Save its weights where you trust it: "
            "torch.save(torch.export.load(FILE).state_dict, 'model.pt')."
        )
    if names and all(name.endswith(".npy") for name in names):
        raise WeightsError(
            f"{path.name} is an archive of NumPy arrays: save model.state_dict() as .safetensors and give that."
        )
    if "data.pkl" not in names:
        raise WeightsError(f"{path.name} is an archive and no file of torch's. Unpack it and give the weights inside.")


def refuse_objects(path: Path, head: bytes, name: str) -> NoReturn:
    """Refuse a file that holds more than weights.

    Arguments:
        name: of what it asks for; "" if that is not known.

    Raises:
        WeightsError: always.
    """
    if model := whole_model(path, head):
        raise WeightsError(
            f"{path.name} is a whole model ({model}) and not only its weights, so it is not opened: such a file can "
            f"run code. {_ALONE}"
        ) from None
    what = f" ({name})" if name else ""
    raise WeightsError(
        f"{path.name} holds Python objects{what} and not only weights, so it is not opened: such a file can run code. "
        f"{_ALONE}"
    ) from None


def whole_model(path: Path, head: bytes) -> str:
    """The class of a model that was pickled as a whole, such as "nets.Net"; "" if the file is none.

    The pickle is looked at and not run: which names it asks for, and whether a module's own fields stand in it.
    """
    try:
        if head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                name = next(each for each in archive.namelist() if each.endswith("data.pkl"))
                with archive.open(name) as record:
                    data = record.read(PICKLE_BYTES)
        else:
            with path.open("rb") as file:
                data = file.read(PICKLE_BYTES)
    except (OSError, StopIteration, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return ""  # locked, or packed in a way that zipfile does not know
    classes, texts = _names(data)
    return classes[0] if classes and {"_parameters", "_modules"} <= texts else ""


def _names(pickle: bytes) -> tuple[list[str], set[str]]:
    """The globals that a pickle asks for in order, and its texts; of a cut or damaged one as far as they go."""
    classes: list[str] = []
    texts: list[str] = []
    stream = io.BytesIO(pickle)
    with contextlib.suppress(ValueError):
        while stream.tell() < len(pickle):  # torch's older files are several pickles, one behind the other
            for code, argument, _ in pickletools.genops(stream):
                if code.name == "GLOBAL" and isinstance(argument, str):
                    classes.append(argument.replace(" ", "."))
                elif code.name == "STACK_GLOBAL" and len(texts) >= 2:
                    classes.append(".".join(texts[-2:]))
                elif isinstance(argument, str) and "UNICODE" in code.name:
                    texts.append(argument)
    helpers = ("collections.", "torch._utils.", "torch.storage", "__builtin__.")
    own = [name for name in classes if not name.startswith(helpers)]
    return own, set(texts)
