"""Weights from files: found, downloaded where the operator asked for them, read without pickle, put into a model."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from hooks.errors import HooksError

CONNECT_SECONDS = 8.0
NAMED_KEYS = 4
NESTED = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "net", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.")

Progress = Callable[[str], None]
_partial: set[Path] = set()


class WeightsError(HooksError):
    """The weights cannot be had, or do not fit the model."""


def read(path: Path | str) -> dict[str, Tensor]:
    """Tensors by name, from a `.safetensors` file or from one of torch's, read with `weights_only=True`.

    Weights nested under "state_dict", "model" and the like are found.

    Raises:
        WeightsError: the file cannot be read, or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}. Give the path of a .safetensors or .pt file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise nearly anything for a damaged file
        raise WeightsError(_unreadable(path, error)) from error
    for name in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    named = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(
            f"{path.name} holds no weights, but {type(content).__name__}. "
            "Save `model.state_dict()`, best as .safetensors."
        )
    return tensors


def _unreadable(path: Path, error: Exception) -> str:
    # torch's own text advises weights_only=False, which runs whatever code is in the file: it is never passed on.
    text = str(error)
    if "weights_only" in text or "Unsupported" in text:
        found = re.search(r"(?:GLOBAL|global) ([\w.]+)", text)
        what = f" ({found[1]})" if found else ""
        return (
            f"{path.name} holds Python objects{what} and not only weights, so it is not opened: such a file can run "
            "code. Save the weights alone, where you trust it: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
        )
    first = text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__
    return f"{path.name} cannot be read as weights ({first}). It may be damaged or cut: copy or download it again."


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put the weights into the module, all of them and nothing else; a prefix like "module." is looked through.

    Raises:
        WeightsError: names the weights that are missing, left over, or of another shape.
    """
    expected = module.state_dict()
    tensors = _without_prefix(dict(tensors), set(expected))
    missing = [name for name in expected if name not in tensors and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in expected]
    shapes = [
        f"{name} is {_shape(tensors[name])} in the file and {_shape(value)} in the model"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if missing or unexpected or shapes:
        problems = [
            f"{len(missing)} missing ({_some(missing)})" if missing else "",
            f"{len(unexpected)} without a place in the model ({_some(unexpected)})" if unexpected else "",
            f"{len(shapes)} of another shape ({_some(shapes)})" if shapes else "",
        ]
        raise WeightsError(
            f"The weights in {source} do not fit {type(module).__name__}: {'; '.join(filter(None, problems))}. "
            "Check the model's arguments, such as the number of classes."
        )
    module.load_state_dict(tensors, strict=False)


def _without_prefix(tensors: dict[str, Tensor], expected: set[str]) -> dict[str, Tensor]:
    for prefix in PREFIXES * 2:  # "module._orig_mod." happens
        if tensors and not expected & set(tensors) and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED_KEYS]) + (", ..." if len(names) > NAMED_KEYS else "")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def cache_path(url: str) -> Path:
    """Where torch.hub keeps the file of this address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def download(url: str, path: Path, progress: Progress) -> None:
    """Fetch a file of weights into torch.hub's cache.

    torch.hub's own download has no time limit: behind a firewall that drops packets it hangs for minutes.

    Raises:
        WeightsError: why it could not be had, as a part of a sentence.
    """
    if path.is_file():
        return
    expected = re.search(r"-([0-9a-f]{8,})\.", path.name)  # torchvision writes the SHA-256's start into the name
    digest = hashlib.sha256()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "hookscope"})
        with urllib.request.urlopen(request, timeout=CONNECT_SECONDS) as answer, _partial_file(path) as partial:
            total = int(answer.headers.get("Content-Length") or 0)
            done = 0
            with partial.open("wb") as file:
                while chunk := answer.read(1 << 20):
                    file.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    of = f" of {total / 1e6:.0f}" if total else ""
                    progress(f"Downloading {path.name}: {done / 1e6:.0f}{of} MB.")
            if total and done != total:
                raise WeightsError("the download broke off")
            if expected and not digest.hexdigest().startswith(expected[1]):
                raise WeightsError("the downloaded file is not the one that was announced")
            partial.replace(path)
    except urllib.error.HTTPError as error:
        raise WeightsError(f"the server answered {error.code} {error.reason}") from error
    except TimeoutError as error:
        raise WeightsError("the network does not answer") from error
    except urllib.error.URLError as error:
        reason = "the network does not answer" if isinstance(error.reason, TimeoutError) else "no network"
        raise WeightsError(reason) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _partial_file(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    _partial.add(partial)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)
        _partial.discard(partial)


def remove_partial_files() -> None:
    """Delete what a download has written so far; called before the process ends in the middle of one."""
    for partial in list(_partial):
        with contextlib.suppress(OSError):
            partial.unlink()


def digest(module: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and values of all parameters and buffers."""
    hasher = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, Tensor):
            continue
        value = tensor.detach()
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        if value.is_quantized:
            value = value.int_repr()
        if value.numel():
            flat = value.cpu().contiguous().flatten().view(torch.uint8)
            hasher.update(memoryview(flat.numpy()))  # type: ignore[arg-type]
    return hasher.hexdigest()
