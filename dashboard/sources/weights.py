"""Weights on their way into a model: downloaded where the operator asked for them, fitted, and told apart."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from hookscope.dashboard.sources.checkpoints import WeightsError
from hookscope.dashboard.sources.unfinished import unfinished

CONNECT_SECONDS = 8.0
NAMED_KEYS = 4
PREFIXES = ("module.", "_orig_mod.", "model.")

Progress = Callable[[str], None]


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put the weights into the module, all of them and nothing else; a prefix like "module." is looked through.

    Raises:
        WeightsError: names the weights that are missing, left over, or of another shape.
    """
    expected = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    tensors = _without_prefix(dict(tensors), set(expected))
    # Tied weights are one tensor under several names, of which .safetensors keep one.
    there = {(value.data_ptr(), value.shape) for name, value in expected.items() if name in tensors and value.numel()}
    missing = [
        name
        for name, value in expected.items()
        if name not in tensors
        and not name.endswith("num_batches_tracked")
        and (value.data_ptr(), value.shape) not in there
    ]
    unexpected = [name for name in tensors if name not in expected]
    pairs = [(name, tensors[name], value) for name, value in expected.items() if name in tensors]
    shapes = [
        f"{name} is {_shape(given)} in the file and {_shape(value)} in the model"
        for name, given, value in pairs
        if given.shape != value.shape
    ]
    kinds = [
        f"{name} is {str(given.dtype)[6:]} in the file and {str(value.dtype)[6:]} in the model"
        for name, given, value in pairs
        if value.is_floating_point() and not given.is_floating_point()
    ]
    if missing or unexpected or shapes or kinds:
        problems = [
            f"{len(missing)} missing ({_some(missing)})" if missing else "",
            f"{len(unexpected)} without a place in the model ({_some(unexpected)})" if unexpected else "",
            f"{len(shapes)} of another shape ({_some(shapes)})" if shapes else "",
            f"{len(kinds)} of another kind ({_some(kinds)})" if kinds else "",
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
        with urllib.request.urlopen(request, timeout=CONNECT_SECONDS) as answer, unfinished(path) as partial:
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
