"""Files of weights: downloaded where the operator asked for them; and weights told apart from others."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from hookscope.dashboard.sources.file_kinds import WeightsError
from hookscope.dashboard.sources.unfinished import unfinished
from hookscope.hooks.layers.fingerprint import digest_of
from hookscope.hooks.passes.modes import unwrap

CONNECT_SECONDS = 8.0

Progress = Callable[[str], None]


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
    expected = announced(path.name)
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
            if not digest.hexdigest().startswith(expected):
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


def announced(name: str) -> str:
    """How the SHA-256 of a file begins, which torchvision writes into its name; "" if it is not there.

    >>> announced("resnet50-11ad3fa6.pth"), announced("model.safetensors")
    ('11ad3fa6', '')
    """
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    return found[1] if found else ""


def is_one_of(path: Path, beginnings: Collection[str]) -> bool:
    """Whether the SHA-256 of a file begins in one of these ways."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return found.startswith(tuple(beginnings))


def digest(module: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and values of all parameters and buffers."""
    return digest_of({name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)})


def are_all(module: nn.Module) -> bool:
    """Whether that is of the module's whole state, which may hold other things than tensors."""
    return unwrap(module) is module and all(isinstance(value, Tensor) for value in module.state_dict().values())
