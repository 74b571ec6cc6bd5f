"""Reads weights from files that nobody vouches for: nothing in a file runs, and only dense tensors come out of it.

What a file is, its first bytes say and not its name. Every refusal says what to do; torch's own advice to set
`weights_only=False`, which runs whatever code is in the file, is never passed on.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError

NESTED = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "net", "weights")
_HEAD_BYTES = 512
_ALONE = (
    "Save the weights alone, where you trust it: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
)
_OTHERS = (
    (re.compile(rb"version https://git-lfs"), "only points to the weights: run `git lfs pull` to fetch them."),
    (re.compile(rb"\s*<"), "is a web page and not weights: download the file itself."),
    (re.compile(rb"GGUF"), "is a GGUF file, which is not read: give the .safetensors file it was made from."),
    (re.compile(rb"\x89HDF"), "is an HDF5 file, as Keras writes, and holds no PyTorch weights: give those."),
    (re.compile(rb"\x93NUMPY"), "is a single NumPy array: save model.state_dict() as .safetensors and give that."),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!"), "is compressed: unpack it and give what is inside."),
)


class WeightsError(HooksError):
    """The weights cannot be had, or do not fit the model."""


def read(path: Path | str) -> dict[str, Tensor]:
    """Tensors by name, from a `.safetensors` file or from one of torch's, read with `weights_only=True`.

    Weights nested under "state_dict", "model" and the like are found. The tensors are dense, on the CPU, and no
    larger than what the file stores of them: a file of 2 KB can describe a tensor of 160 GB that repeats one value.

    Raises:
        WeightsError: the file cannot be read, or holds something else; a sentence with what to do.
    """
    path = Path(path)
    head, size = _look(path)
    if _is_safetensors(path, head, size):
        content: Any = _read_safetensors(path)
    else:
        _refuse_what_is_none(path, head, size)
        content = _read_torch(path, head)
    for _ in NESTED:  # and no further: a dictionary can contain itself
        inner = [content[name] for name in NESTED if isinstance(content, Mapping) and name in content]
        content = next((each for each in inner if isinstance(each, Mapping)), content)
    named = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): _dense(path, str(name), value, size) for name, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(
            f"{path.name} holds no weights, but {type(content).__name__}. "
            "Save `model.state_dict()`, best as .safetensors."
        )
    return tensors


def without_advice(text: str) -> str:
    """A traceback, or what else torch may have written into, without the lines that say how to run a file's code."""
    lines = [line for line in text.splitlines(keepends=True) if not re.search("weights.only|safe_globals", line, re.I)]
    return "".join(lines)


def _look(path: Path) -> tuple[bytes, int]:
    """The file's first bytes and its size."""
    if path.is_dir():
        raise WeightsError(f"{path} is a folder. Give the .safetensors or .pt file in it.")
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}. Give the path of a .safetensors or .pt file.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be opened ({error.strerror}). Let this user read it, or give a copy."
        ) from error
    if not head:
        raise WeightsError(f"{path.name} is empty. Copy or download it again.")
    return head, size


def _is_safetensors(path: Path, head: bytes, size: int) -> bool:
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return True
    known = head.startswith((b"PK", b"\x80")) or any(pattern.match(head) for pattern, _ in _OTHERS)
    return path.suffix == ".safetensors" and not known


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except Exception as error:  # among them KeyError, for a dtype that torch does not have
        raise WeightsError(_damaged(path, error)) from None


def _refuse_what_is_none(path: Path, head: bytes, size: int) -> None:
    """Refuse what torch's reader would not understand, or what would make it take more memory than the file has."""
    for pattern, what in _OTHERS:
        if pattern.match(head):
            raise WeightsError(f"{path.name} {what}")
    if head[257:262] == b"ustar":
        raise WeightsError(f"{path.name} is of a format that torch left in 2017. {_ALONE}")
    if not head.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise WeightsError(_damaged(path, error)) from None
    names = {record.filename.partition("/")[2] for record in records}
    if "constants.pkl" in names:
        raise WeightsError(f"{path.name} is a TorchScript program and not only weights, so it is not opened. {_ALONE}")
    if "data.pkl" not in names:
        raise WeightsError(f"{path.name} is an archive and no file of torch's. Unpack it and give the weights inside.")
    # torch stores its records as they are. Packed ones, or ones that share their bytes, unpack to anything.
    if sum(record.file_size for record in records) > size:
        raise WeightsError(
            f"{path.name} is packed in a way that torch never writes, so it is not unpacked. "
            "Get it from where it was made, or save it again there."
        )


def _read_torch(path: Path, head: bytes) -> object:
    try:
        # Opened by us: by its name, torch would give a file to another reader. Its warnings advise as well.
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises nearly anything for a damaged file
        text = str(error)
        found = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", text)
        if found or "Can only" in text or (head.startswith(b"\x80") and "Unsupported operand" in text):
            what = f" ({found[1]})" if found else ""
            raise WeightsError(
                f"{path.name} holds Python objects{what} and not only weights, so it is not opened: such a file can "
                f"run code. {_ALONE}"
            ) from None
        raise WeightsError(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> str:
    lines = without_advice(str(error)).strip().splitlines()
    why = f" ({lines[0][:200].rstrip('.')})" if lines else ""
    return f"{path.name} cannot be read as weights{why}. It may be damaged or cut: copy or download it again."


def _dense(path: Path, name: str, value: Tensor, size: int) -> Tensor:
    """The tensor alone, without what a file may hang on to it."""
    advice = "Save a `model.state_dict()` of ordinary tensors."
    if value.layout != torch.strided or value.is_nested:
        what, advice = "is sparse or nested", "Call .to_dense() on it before saving."
    elif value.is_quantized:
        what, advice = "is quantized", "Save the weights of the model as it was before quantization."
    elif value.device.type == "meta":
        what, advice = "has a shape and no values", "Save the weights after they were loaded or trained."
    elif type(value) not in (Tensor, nn.Parameter):
        what = f"is a {type(value).__name__}"
    elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
        what, advice = "repeats its values to more than the file holds", "Call .contiguous() on it before saving."
    elif value.untyped_storage().nbytes() > size:
        what = "is larger than the file"
    else:
        return Tensor.detach(value)
    raise WeightsError(f"{path.name} is not read: {name!r} in it {what}, and a model takes plain tensors. {advice}")
