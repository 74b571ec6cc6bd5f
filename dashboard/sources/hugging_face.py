"""Models of the package transformers: from a folder, or by the operator's wish from the Hugging Face Hub.

Nothing in a folder is run: the model's class has to be one of the package's own, weights are .safetensors, and code
that a folder brings ("auto_map") is refused. A folder is read without the network.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hookscope.dashboard.asking.texts import SENTENCE_LENGTH, TITLE_LENGTH, one_line, say, shorten
from hookscope.dashboard.engine.base import LIKENESS
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources import weights
from hookscope.dashboard.sources.building import ModelNotFound, Source, arguments_of, given_weights, overridden, seeded
from hookscope.dashboard.sources.hugging_face_answers import EMBEDDING, Detector, Universal, WithTexts
from hookscope.dashboard.sources.hugging_face_pictures import ProcessorMissing, from_processor, plainly, processor_of
from hookscope.dashboard.sources.hugging_face_texts import Tokens
from hookscope.dashboard.sources.preprocessing import Preprocessor
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.outputs import AS_FOUND, Reading

OLDEST = (5, 10)  # before it a folder could run code, or write elsewhere (CVE-2026-4372, CVE-2026-5241, CVE-2026-9856)
MADE_UP = "LABEL_"  # how a configuration without names calls its classes
NAMED = 4  # of the weights that are missing or left out, so many are named
OF_TEXTS = ("text_", "logit_scale", "logit_bias")  # how weights begin without which no caption is compared
PICTURE_SIDES = ("VisionModel", "VisionModelWithProjection")  # how the class of a model of pictures and texts ends
READS = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "values",
}


def hugging_face_model(name: str, options: ModelOptions, progress: weights.Progress) -> Source:
    """A model of transformers, from a FOLDER that `save_pretrained` wrote, or from the Hub by its NAME.

    Raises:
        HooksError: it is no vision model, brings code of its own, lacks a file, or the package is missing.
    """
    local = Path(name).is_dir()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    library = _library()
    progress(f"Reading {name}.")
    where = _Where(name, local, library)
    config = where.config()
    kind = where.model_class(config)
    arguments = arguments_of(options)
    with seeded(options.seed):
        model, note, missing, left = where.model(kind, config, options, arguments)
    filled = None
    if options.weights:
        filled = given_weights(model, options)
    prepare, note = where.preparation(model.config, options, note)
    model.config.return_dict = True  # so that the parts of its answer have names
    texts = _Texts(where, model, options, missing)
    module, reading = _answering(model, where, texts)
    random_part = next((each.rpartition(".")[0] for each in missing if not texts.has(each)), "")
    said = f"Those of {one_line(Path(name).name, TITLE_LENGTH)}." if filled is None else filled.sentence
    notes = " ".join(filter(None, [note, filled.note if filled else "", texts.note]))
    return Source(
        module,
        one_line(Path(name).name or name, TITLE_LENGTH),
        prepare,
        said,
        classes=_classes(model.config, module),
        reading=reading,
        random_part=filled.head if filled else random_part,
        weights_note=shorten(notes, SENTENCE_LENGTH),
        captioned=texts.read_as,
        texts=texts.digest,
        missing=tuple(each for each in missing if not texts.has(each)),
        unexpected=filled.unexpected if filled else tuple(left),
    )


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ModelNotFound(
            "Hugging Face models need the package transformers: pip install 'hookscope[hf]', or pip install "
            "'transformers>=5.10'."
        ) from error
    version = tuple(int(each) for each in transformers.__version__.split(".")[:2] if each.isdigit())
    if version < OLDEST:
        raise ModelNotFound(
            f"transformers {transformers.__version__} has known holes through which a folder can run code. "
            "pip install 'transformers>=5.10'."
        )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@dataclass(frozen=True)
class _Where:
    """A folder, or a name on the Hub, and the package that reads it."""

    name: str
    local: bool
    library: Any

    @property
    def how(self) -> dict[str, Any]:
        return {"local_files_only": self.local, "trust_remote_code": False}

    def config(self) -> Any:
        try:
            found, _ = self.library.PreTrainedConfig.get_config_dict(self.name, local_files_only=self.local)
            if found.get("auto_map"):
                raise ModelNotFound(
                    f"{self.name} brings code of its own (auto_map), which is never run. Open it through a factory of "
                    "yours that imports that code."
                )
            return self.library.AutoConfig.from_pretrained(self.name, **self.how)
        except HooksError:
            raise
        except Exception as error:
            lacks = self.local and not (Path(self.name) / "config.json").is_file()
            reason = "has no config.json" if lacks else f"cannot be read ({say(error)})"
            if not self.local and (self.name[0] in "./~" or self.name.count("/") != 1):
                reason = "is no folder here"
            raise ModelNotFound(
                f"{self.name} {reason}: hf: takes a folder that save_pretrained wrote, or where there is a network a "
                "name on the Hugging Face Hub."
            ) from error

    def model_class(self, config: Any) -> Any:
        for name in config.architectures or ():
            kind: Any = getattr(self.library, name, None)
            if inspect.isclass(kind) and issubclass(kind, self.library.PreTrainedModel):
                takes: Any = getattr(kind, "forward")  # noqa: B009
                if "pixel_values" in inspect.signature(takes).parameters:
                    return kind
                raise ModelNotFound(
                    f"{self.name} is a model of {config.model_type} ({name}), which takes no pictures. Hookscope looks "
                    "into vision models."
                )
        named = ", ".join(config.architectures or ()) or "none"
        raise ModelNotFound(
            f"transformers {self.library.__version__} has no model class of the name that {self.name} asks for "
            f"({named}). Install the version that its config.json names, or open it through a factory."
        )

    def model(
        self, kind: Any, config: Any, options: ModelOptions, arguments: dict[str, Any]
    ) -> tuple[Any, str, list[str], list[str]]:
        """The model, what is to be said of its weights, which of them are random, and which the file has besides."""
        if options.weights:
            for name, value in arguments.items():
                setattr(config, name, value)
            return kind(config), "", [], []
        try:
            model, info = kind.from_pretrained(
                self.name,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **arguments,
                **self.how,
            )
        except Exception as error:
            files = [*Path(self.name).glob("*.safetensors")] if self.local else ["?"]
            if not files:
                raise ModelNotFound(
                    f"{self.name} has no .safetensors: only these are read, because other files can run code. Save it "
                    "once more with save_pretrained."
                ) from error
            raise ModelNotFound(f"The model in {self.name} cannot be built: {say(error)}.") from error
        missing = sorted({*map(str, info["missing_keys"]), *(str(each[0]) for each in info["mismatched_keys"])})
        left = sorted(map(str, info["unexpected_keys"]))
        said = [
            f"{len(missing)} of its weights are not in the file and are random: {_few(missing)}." if missing else "",
            f"{len(left)} weights of the file were left out: {_few(left)}." if left else "",
        ]
        return model, " ".join(filter(None, said)), missing, left

    def preparation(self, config: Any, options: ModelOptions, note: str) -> tuple[Preprocessor, str]:
        """How pictures are prepared: as the folder's processor does it, or as the operator says."""
        try:
            prepare, name = from_processor(self.library, self.name, self.how)
        except ProcessorMissing:
            if not (options.mean and options.std):
                raise
            return overridden(plainly(config), options), note
        return overridden(prepare, options), f"{note} Pictures are prepared by {name}.".strip()


class _Texts:
    """The text side of a model: how it compares captions with a picture, and if it cannot, why not.

    Attributes:
        tokens: makes tokens of captions; None if nothing does. own: those of the operator's `--labels`.
        read_as: how the likeness is read; "" where no captions can be typed, and then `note` says why.
        digest: of what decides over tokens, and of the operator's captions.
    """

    def __init__(self, where: _Where, model: Any, options: ModelOptions, missing: Sequence[str]) -> None:
        self.tokens: Tokens | None = None
        self.own: Mapping[str, torch.Tensor] | None = None
        self.read_as = self.note = self.digest = ""
        self._both = hasattr(model, "get_image_features") and hasattr(model, "get_text_features")
        if not self._both:
            if type(model).__name__.endswith(PICTURE_SIDES):
                self.note = f"{type(model).__name__} is the picture's side alone: it has no text side for captions."
            return
        if not hasattr(model, "logit_scale"):
            self.note = f"How {type(model).__name__} compares captions is not known here, so it takes none."
            return
        if any(map(self.has, missing)):
            self.note = "Its text side is not in the file, so it takes no captions."
            return
        try:
            tokenizer = where.library.AutoTokenizer.from_pretrained(where.name, **where.how)
            longest = model.config.text_config.max_position_embeddings
            if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_tokens):
                raise ValueError("it knows no words")  # what the package makes of a folder without one
            self.tokens = Tokens(tokenizer, longest)
            self.digest = self.tokens.digest
        except Exception as error:
            sentence = (
                f"{where.name} has no tokenizer that can be read ({say(error)}), so it cannot be given captions. Put "
                "its tokenizer.json beside its config.json, or start without --labels."
            )
            if options.labels:
                raise ModelNotFound(sentence) from error
            self.note = "It has no tokenizer that can be read (tokenizer.json), so it takes no captions."
            return
        self.read_as = "sigmoid" if hasattr(model, "logit_bias") else "softmax"
        if options.labels:
            lines = Path(options.labels).read_text(encoding="utf-8").splitlines()
            captions = [line.strip() for line in lines if line.strip()]
            self.own = self.tokens.cut(captions)
            self.digest += hashlib.sha256("\n".join(captions).encode()).hexdigest()

    def has(self, weight: str) -> bool:
        """Whether a weight is of the text side, or of the comparison with it."""
        return self._both and weight.startswith(OF_TEXTS)


def _answering(model: Any, where: _Where, texts: _Texts) -> tuple[nn.Module, Reading]:
    """The module to look into, and how its answer is read."""
    name = type(model).__name__
    if hasattr(model, "get_image_features") and hasattr(model, "get_text_features"):
        module = WithTexts(model, texts.tokens, texts.own)
        return module, Reading(EMBEDDING, "embedding") if texts.own is None else Reading(LIKENESS, texts.read_as)
    if name.endswith("ForObjectDetection"):
        return Detector(model, processor_of(where.library, where.name, where.how)), AS_FOUND
    if name.endswith("ForUniversalSegmentation"):
        return Universal(model), Reading("classes", "softmax")
    if name.endswith(("ForImageClassification", "ForSemanticSegmentation")):
        several = model.config.num_labels > 1
        usual = "softmax" if several else "values" if name.endswith("Classification") else "sigmoid"
        return model, Reading("logits", READS.get(str(model.config.problem_type), usual))
    if name.endswith("WithProjection"):
        return model, Reading(EMBEDDING, "embedding")
    if name.endswith("Model"):
        return model, Reading(reads="embedding")
    return model, AS_FOUND


def _classes(config: Any, module: nn.Module) -> tuple[str, ...]:
    """The names of `id2label`, where somebody has given them."""
    if isinstance(module, WithTexts):
        return ()
    names = [str(config.id2label[index]) for index in sorted(config.id2label)] if config.id2label else []
    if not names or all(name.startswith(MADE_UP) for name in names):
        return ()
    return tuple(one_line(name, TITLE_LENGTH) for name in names)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
