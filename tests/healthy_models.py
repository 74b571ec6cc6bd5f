"""The models that a check-up has to leave alone: written down before any rule was, so that no rule chose them.

They have random weights, and BatchNorms that have seen pictures (`settle`).
"""

from __future__ import annotations

HEALTHY = (
    "torchvision:resnet18",
    "torchvision:resnet50",
    "torchvision:googlenet",
    "torchvision:densenet121",
    "torchvision:mobilenet_v3_small",
    "torchvision:efficientnet_b0",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:regnet_y_400mf",
    "torchvision:mnasnet0_5",
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",  # a detector
    "torchvision:vgg11",  # from here on without BatchNorm
    "torchvision:alexnet",
    "torchvision:squeezenet1_1",
    "timm:convnext_atto",
    "timm:resmlp_12_224",
    "torchvision:vit_b_32",  # from here on with attention
    "torchvision:swin_t",
    "timm:deit_tiny_patch16_224",
    "timm:xcit_nano_12_p16_224",
    "timm:mobilevit_xxs",
)
