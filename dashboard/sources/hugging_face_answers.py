"""What models of transformers answer, as the rest of the application reads it: boxes, classes per pixel, captions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from cachetools import LRUCache
from torch import Tensor, nn

from hookscope.dashboard.engine.base import LIKENESS

LEAST_SCORE = 0.05  # of a box that is listed, as in torchvision's detectors
MOST_BOXES = 100
EMBEDDING = "image_embeds"  # the output that is a picture's, as transformers calls it
KEPT = 32  # lists of captions whose embeddings are kept


class Detector(nn.Module):
    """A detector whose answer is a list with one dict of "boxes", "labels" and "scores", the best first.

    Arguments:
        model: answers logits and boxes per query. processor: makes scores and boxes of them, in its own way.
    """

    def __init__(self, model: nn.Module, processor: Any) -> None:
        super().__init__()
        self.model = model
        self._processor = processor

    def forward(self, pixel_values: Tensor) -> list[dict[str, Tensor]]:
        output = self.model(pixel_values=pixel_values)
        height, width = pixel_values.shape[-2:]
        sizes = [(height, width)] * pixel_values.shape[0]
        answers = self._processor.post_process_object_detection(output, threshold=LEAST_SCORE, target_sizes=sizes)
        found = []
        for answer in answers:
            order = answer["scores"].argsort(descending=True)[:MOST_BOXES]
            found.append({name: answer[name][order] for name in ("boxes", "labels", "scores")})
        return found


class Universal(nn.Module):
    """A model of queries, each a mask and a class, whose answer is a score per class and position.

    The score of a class is the sum, over the queries, of their share for that class times their mask's share there:
    `post_process_semantic_segmentation` takes the largest of these.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        output = self.model(pixel_values=pixel_values)
        shares = output.class_queries_logits.softmax(-1)[..., :-1]  # the last is "no object"
        masks = output.masks_queries_logits.sigmoid()
        return {"classes": torch.einsum("bqc,bqhw->bchw", shares, masks)}


class WithTexts(nn.Module):
    """A model of pictures and captions, given the picture alone: its embedding, and its likeness to each caption.

    Arguments:
        model: with `get_image_features` and `get_text_features`, such as CLIP and SigLIP.
        tokens: makes of captions what the latter takes, (caption, token) each; None where nothing does.
        own: of the captions that it is compared with where none are asked about; none for the embedding alone.
    """

    texts: Tensor

    def __init__(
        self,
        model: Any,
        tokens: Callable[[Sequence[str]], Mapping[str, Tensor]] | None = None,
        own: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._tokens = tokens
        self._asked: Tensor | None = None
        self._encoded: LRUCache[tuple[str, ...], Tensor] = LRUCache(KEPT)
        model.eval()
        self.register_buffer("texts", torch.empty(0) if own is None else self._encode(own), persistent=False)

    @contextlib.contextmanager
    def comparing(self, captions: tuple[str, ...]) -> Iterator[None]:
        """Have it be about these captions in the block; without any, about its own.

        Raises:
            CaptionError: the model does not read one to its end, or not as it is written.
        """
        before = self._asked
        self._asked = self._texts_of(captions) if captions and self._tokens is not None else None
        try:
            yield
        finally:
            self._asked = before

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        embedding = nn.functional.normalize(_features(self.model.get_image_features(pixel_values=pixel_values)), dim=-1)
        texts = self.texts if self._asked is None else self._asked
        if not texts.numel():
            return {EMBEDDING: embedding}
        bias = getattr(self.model, "logit_bias", None)
        logits = embedding @ texts.mT * self.model.logit_scale.exp()
        return {LIKENESS: logits if bias is None else logits + bias, EMBEDDING: embedding}

    def _texts_of(self, captions: tuple[str, ...]) -> Tensor:
        found: Tensor | None = self._encoded.get(captions)
        if found is None and self._tokens is not None:
            found = self._encoded[captions] = self._encode(self._tokens(captions))
        return self.texts if found is None else found

    def _encode(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """The captions' embeddings, float (caption, number), each of length 1."""
        device = next(self.model.parameters()).device
        given = {name: each.to(device) for name, each in tokens.items()}
        with torch.no_grad():
            return nn.functional.normalize(_features(self.model.get_text_features(**given)), dim=-1)


def _features(output: Any) -> Tensor:
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found
