"""Small models of transformers as `save_pretrained` writes them, with random weights; a few seconds in all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf

NAMES = {0: "cat", 1: "dog", 2: "bird"}
LABELS: dict[str, Any] = {"id2label": NAMES, "label2id": {name: index for index, name in NAMES.items()}}
WIDTH: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
VIT: dict[str, Any] = {**WIDTH, "image_size": 64, "patch_size": 16}
TEXT: dict[str, Any] = {**WIDTH, "vocab_size": 99, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}
SQUARE = {"height": 64, "width": 64}
STAGES: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
DETR: dict[str, Any] = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "d_model": 32,
    "num_queries": 6,
}


def vit() -> Any:
    return hf.ViTForImageClassification(hf.ViTConfig(**VIT, **LABELS)), hf.ViTImageProcessor(size=SQUARE)


def vit_of_labels() -> Any:
    config = hf.ViTConfig(**VIT, **LABELS, problem_type="multi_label_classification")
    return hf.ViTForImageClassification(config), hf.ViTImageProcessor(size=SQUARE)


def vit_of_tuples() -> Any:
    return hf.ViTForImageClassification(hf.ViTConfig(**VIT, return_dict=False)), hf.ViTImageProcessor(size=SQUARE)


def regression() -> Any:
    config = hf.ViTConfig(**VIT, num_labels=1, id2label={0: "age"}, label2id={"age": 0})
    return hf.ViTForImageClassification(config), hf.ViTImageProcessor(size=SQUARE)


def convnext() -> Any:
    config = hf.ConvNextConfig(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1], **LABELS)
    return hf.ConvNextForImageClassification(config), hf.ConvNextImageProcessor(size={"shortest_edge": 64})


def swin() -> Any:
    sizes: dict[str, Any] = {"embed_dim": 16, "depths": [1, 1, 1], "num_heads": [1, 2, 4], "window_size": 4}
    config = hf.SwinConfig(**sizes, image_size=64, patch_size=2, **LABELS)
    return hf.SwinForImageClassification(config), hf.ViTImageProcessor(size=SQUARE)


def dinov2() -> Any:
    model = hf.Dinov2Model(hf.Dinov2Config(**{**VIT, "intermediate_size": 64}))
    return model, hf.BitImageProcessor(size={"shortest_edge": 73}, crop_size=SQUARE)


def segformer() -> Any:
    sizes: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4, "num_attention_heads": [1, 2, 2, 4]}
    config = hf.SegformerConfig(**sizes, decoder_hidden_size=16, **LABELS)
    return hf.SegformerForSemanticSegmentation(config), hf.SegformerImageProcessor(size=SQUARE)


def detr() -> Any:
    backbone = hf.ResNetConfig(**STAGES, out_features=["stage4"])
    own: dict[str, Any] = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
    model = hf.DetrForObjectDetection(hf.DetrConfig(backbone_config=backbone, **own, **DETR, **LABELS))
    return model, hf.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 100})


def yolos() -> Any:
    config = hf.YolosConfig(**{**VIT, "image_size": [64, 96]}, num_detection_tokens=6, **LABELS)
    return hf.YolosForObjectDetection(config), hf.YolosImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})


def rt_detr() -> Any:
    backbone = hf.RTDetrResNetConfig(**STAGES, out_features=["stage2", "stage3", "stage4"])
    own: dict[str, Any] = {name: value for name, value in DETR.items() if name != "encoder_layers"}
    widths: dict[str, Any] = {"encoder_in_channels": [16, 24, 32], "decoder_in_channels": [32] * 3}
    config = hf.RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=32, num_denoising=0, **widths, **own, **LABELS
    )
    return hf.RTDetrForObjectDetection(config), hf.RTDetrImageProcessor(size=SQUARE)


def clip() -> Any:
    config = hf.CLIPConfig(text_config=TEXT, vision_config=VIT, projection_dim=16)
    return hf.CLIPModel(config), hf.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=SQUARE)


def clip_pictures() -> Any:
    """The half of a CLIP that takes pictures."""
    model = hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**VIT, projection_dim=16))
    return model, hf.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=SQUARE)


def siglip() -> Any:
    return hf.SiglipModel(hf.SiglipConfig(text_config=TEXT, vision_config=VIT)), hf.SiglipImageProcessor(size=SQUARE)


def mask2former() -> Any:
    sizes: dict[str, Any] = {"embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 2, 2, 2], "window_size": 4}
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = hf.SwinConfig(**sizes, image_size=64, patch_size=4, out_features=stages)
    widths = ("feature_size", "mask_feature_size", "hidden_dim", "encoder_feedforward_dim", "dim_feedforward")
    own: dict[str, Any] = {"encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "num_queries": 5}
    config = hf.Mask2FormerConfig(backbone_config=backbone, **dict.fromkeys(widths, 32), **own, **LABELS)
    return hf.Mask2FormerForUniversalSegmentation(config), hf.Mask2FormerImageProcessor(size=SQUARE)


def matting() -> Any:
    """A head that ends in a sigmoid, over a backbone with channels last; of three channels, without a trimap."""
    sizes: dict[str, Any] = {name: WIDTH[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    windows: dict[str, Any] = {"window_block_indices": [0], "window_size": 2, "pretrain_image_size": 64}
    backbone = hf.VitDetConfig(**sizes, **windows, mlp_ratio=2, image_size=64, patch_size=16, out_features=["stage2"])
    widths: dict[str, Any] = {"convstream_hidden_sizes": [8, 8, 8], "fusion_hidden_sizes": [16, 8, 8, 4]}
    model = hf.VitMatteForImageMatting(hf.VitMatteConfig(backbone_config=backbone, hidden_size=32, **widths))
    for weights in model.parameters():
        if weights.ndim > 1:  # or the same answer stands at every position
            torch.nn.init.normal_(weights, std=weights[0].numel() ** -0.5)
    return model, hf.ViTImageProcessor(size=SQUARE)


def bert() -> Any:
    return hf.BertModel(hf.BertConfig(**WIDTH, vocab_size=99)), None


FAMILIES = (vit, vit_of_labels, vit_of_tuples, regression, convnext, swin, dinov2, segformer, detr, yolos, rt_detr)
FAMILIES += (clip, clip_pictures, siglip, mask2former, matting, bert)


def write(folder: Path, families: Sequence[Callable[[], Any]] = FAMILIES) -> None:
    """Write each family into a folder of its name; those of captions with a tokenizer of five words."""
    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    torch.manual_seed(0)
    for make in families:
        model, processor = make()
        model.eval().save_pretrained(folder / make.__name__)
        if processor is not None:
            processor.save_pretrained(folder / make.__name__)
    for name in {"clip", "siglip"} & {make.__name__ for make in families}:
        tokenizer().save_pretrained(folder / name)


def tokenizer() -> Any:
    """Words become numbers; what it has not seen is 0."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"?": 0, "<s>": 1, "</s>": 2, "a": 3, "red": 4, "cat": 5, "green": 6, "dog": 7}
    made = Tokenizer(models.WordLevel(words, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "?", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=16, **special)
