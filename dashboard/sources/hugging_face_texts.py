"""Captions as the text side of a model of transformers takes them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hookscope.dashboard.asking.texts import SENTENCE_LENGTH, shorten
from hookscope.hooks.errors import HooksError

TAKEN = ("input_ids", "attention_mask")


class CaptionError(HooksError):
    """A caption is none that the model can be asked about."""


class Tokens:
    """Makes tokens of captions, all of them as long as the model reads at most, as such models are trained.

    Arguments:
        tokenizer: of transformers. longest: how many tokens the model reads.
    """

    def __init__(self, tokenizer: Any, longest: int) -> None:
        self._tokenizer = tokenizer
        self.longest = min(longest, int(tokenizer.model_max_length))

    def __call__(self, captions: Sequence[str]) -> Mapping[str, Tensor]:
        """(caption, token) each.

        Raises:
            CaptionError: a caption would have to be cut, or holds what the tokenizer itself writes, such as the end of
                a text: the model would read what stands before it.
        """
        for number, caption in enumerate(captions, 1):
            for token in self._tokenizer.all_special_tokens:
                if len(token) > 1 and token in caption:
                    raise CaptionError(
                        f"Caption {number} holds {token!r}, which has a meaning of its own to this model. Leave it out."
                    )
        for number, ids in enumerate(self._tokenizer(list(captions), truncation=False)["input_ids"], 1):
            if len(ids) > self.longest:
                raise CaptionError(
                    f"Caption {number} has {len(ids)} tokens, and the model reads {self.longest}. Shorten it: "
                    f"“{shorten(captions[number - 1], SENTENCE_LENGTH)}”."
                )
        return self.cut(captions)

    def cut(self, captions: Sequence[str]) -> Mapping[str, Tensor]:
        """The same, with what is too long cut off."""
        found = self._tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=self.longest, return_tensors="pt"
        )
        return {name: found[name] for name in TAKEN if name in found}

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides which tokens a caption becomes."""
        hasher = hashlib.sha256(str(self.longest).encode())
        with tempfile.TemporaryDirectory() as folder:
            self._tokenizer.save_pretrained(folder)
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    hasher.update(path.name.encode() + path.read_bytes())
        return hasher.hexdigest()
