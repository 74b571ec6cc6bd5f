"""Reads weights from files that nobody vouches for: nothing in a file runs, and only dense tensors come out of it.

What a file is, its first bytes say and not its name. Every refusal says what to do; torch's own advice to set
`weights_only=False`, which runs whatever code is in the file, is never passed on.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.dashboard.sources import inert
from hookscope.dashboard.sources.file_kinds import (
    HEAD_BYTES,
    WeightsError,
    is_other_kind,
    refuse_objects,
    refuse_other_archive,
    refuse_other_kind,
)

NOT_WEIGHTS = (
    "optimizer",
    "optimizers",
    "optimizer_states",
    "optimizer_state_dict",
    "lr_schedulers",
    "scheduler",
    "scaler",
)
DEEPEST = 6  # dictionaries in each other, in which weights are looked for
_INDEX = re.compile(r"\.index\.json$")
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(\.\w+)$")
INDEX_BYTES = 64 << 20

Sets = dict[str, dict[str, Tensor]]  # by where they stood in the file, such as "state_dict"; "" for all of it


def read(path: Path | str) -> Sets:
    """Every dictionary of tensors in a `.safetensors` file, in one of torch's, or in an index's or a folder's shards.

    torch's are read with `weights_only=True`. The tensors are dense, on the CPU, and no larger than what the file
    stores of them: a file of 2 KB can describe a tensor of 160 GB that repeats one value.

    Raises:
        WeightsError: the file cannot be read, or holds something else; a sentence with what to do.
    """
    path = Path(path)
    shards = _shards(path)
    if shards:
        joined: dict[str, Tensor] = {}
        for shard in shards:
            for tensors in _read_file(shard).values():
                joined |= tensors
        return {"": joined}
    return _read_file(path)


def _read_file(path: Path) -> Sets:
    head, size = _look(path)
    if _is_safetensors(path, head, size):
        content: Any = _read_safetensors(path)
    else:
        _refuse_what_is_none(path, head, size)
        content = _read_torch(path, head)
    sets: Sets = {}
    _collect(content, "", sets, path, size, set())
    if not sets:
        raise WeightsError(
            f"{path.name} holds no weights, but {_in_words(content)}. Save `model.state_dict()`, best as .safetensors."
        )
    return sets


def _collect(content: Any, where: str, sets: Sets, path: Path, size: int, seen: set[int], depth: int = 0) -> None:
    """Every dictionary that holds tensors itself, the outer ones first; a dictionary can contain itself."""
    if not isinstance(content, Mapping) or id(content) in seen or depth > DEEPEST:
        return
    seen.add(id(content))
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        sets[where] = {name: _dense(path, name, value, size) for name, value in tensors.items()}
    for name, inner in content.items():
        if isinstance(name, str) and name not in NOT_WEIGHTS:
            _collect(inner, f"{where}.{name}" if where else name, sets, path, size, seen, depth + 1)


# --- several files


def _shards(path: Path) -> list[Path]:
    """The files that belong together with this one, () if it is whole by itself.

    Raises:
        WeightsError: one of them is missing, or the index cannot be read.
    """
    if path.is_dir():
        return _in_folder(path)
    if _INDEX.search(path.name) and path.is_file():
        return _of_index(path)
    found = _SHARD.fullmatch(path.name)
    if not found or not path.is_file():
        return []
    stem, _, count, ending = found.groups()
    names = [f"{stem}-{number:0{len(count)}}-of-{count}{ending}" for number in range(1, int(count) + 1)][:10_000]
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing:
        raise WeightsError(
            f"{path.name} is one of {int(count)} files that belong together, and {missing[0]} is not beside it. Put "
            "all of them into one folder."
        )
    return [path.with_name(name) for name in names]


def _in_folder(folder: Path) -> list[Path]:
    indices = sorted(each for each in folder.glob("*.index.json"))
    if indices:
        return _of_index(next((each for each in indices if "safetensors" in each.name), indices[0]))
    files = sorted(each for each in folder.iterdir() if each.suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt"))
    known = [each for each in files if each.name == "model.safetensors"] or files
    if len(known) != 1:
        names = ", ".join(each.name for each in files[:4])
        what = f"holds {len(files)} files of weights ({names})" if files else "holds no file of weights"
        raise WeightsError(f"The folder {folder.name} {what}. Give the .safetensors or .pt file itself.")
    return _shards(known[0]) or known


def _of_index(path: Path) -> list[Path]:
    """The files that an index names, which lie beside it."""
    try:
        if path.stat().st_size > INDEX_BYTES:
            raise ValueError("it is too large")
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        files = list(dict.fromkeys(map(str, names)))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path.name} is no index of weights that can be read ({type(error).__name__}). Give the files themselves."
        ) from None
    for name in files:
        if Path(name).name != name:
            raise WeightsError(
                f"{path.name} names a file in another folder ({name[:80]!r}), which is not read. Put them into one."
            )
        if not path.with_name(name).is_file():
            raise WeightsError(f"{path.name} needs {name}, which is not beside it. Put all its files into one folder.")
    return [path.with_name(name) for name in files]


def without_advice(text: str) -> str:
    """A traceback, or what else torch may have written into, without the lines that say how to run a file's code."""
    lines = [line for line in text.splitlines(keepends=True) if not re.search("weights.only|safe_globals", line, re.I)]
    return "".join(lines)


def _look(path: Path) -> tuple[bytes, int]:
    """The file's first bytes and its size."""
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}. Give the path of a .safetensors or .pt file.")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
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
    known = head.startswith((b"PK", b"\x80")) or is_other_kind(head)
    return path.suffix == ".safetensors" and not known


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except Exception as error:  # among them KeyError, for a dtype that torch does not have
        raise WeightsError(_damaged(path, error)) from None


def _refuse_what_is_none(path: Path, head: bytes, size: int) -> None:
    """Refuse what torch's reader would not understand, or what would make it take more memory than the file has."""
    refuse_other_kind(path, head)
    if not head.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise WeightsError(_damaged(path, error)) from None
    names = {record.filename.partition("/")[2] or record.filename for record in records}
    refuse_other_archive(path, names)
    # torch stores its records as they are. Packed ones, or ones that share their bytes, unpack to anything.
    if sum(record.file_size for record in records) > size:
        raise WeightsError(
            f"{path.name} is packed in a way that torch never writes, so it is not unpacked. "
            "Get it from where it was made, or save it again there."
        )


def _read_torch(path: Path, head: bytes) -> object:
    try:
        # Opened by us: by its name, torch would give a file to another reader. Its warnings advise as well.
        with (
            path.open("rb") as file,
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals(inert.allowed()),
        ):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises nearly anything for a damaged file
        text = str(error)
        found = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", text)
        if found or "Can only" in text or (head.startswith(b"\x80") and "Unsupported operand" in text):
            refuse_objects(path, head, found[1] if found else "")
        if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
            raise WeightsError(
                f"{path.name} is a text and holds no weights. Give the file that they were saved in."
            ) from None
        raise WeightsError(_damaged(path, error)) from None


def _in_words(content: Any) -> str:
    """What a file without weights holds."""
    inside = list(content.values()) if isinstance(content, Mapping) else content if isinstance(content, list) else []
    kinds = {type(each).__name__ for each in inside}
    if not kinds:
        return type(content).__name__
    what = "NumPy arrays" if kinds == {"ndarray"} else "tensors without names" if kinds == {"Tensor"} else "values"
    return f"a {type(content).__name__} of {what}"


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
