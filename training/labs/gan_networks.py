"""The generator and the discriminator of `training/labs/gan.py`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from training.features import PerceptualFeatures

CHANNELS = {4: 256, 8: 160, 16: 96, 32: 64, 64: 32, 128: 16}
"""Of the generator at each size of its feature maps."""


class Up(nn.Module):
    """Twice the size: `[B, in, h, w]` to `[B, out, 2h, 2w]`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 2 * outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.norm(self.conv(F.interpolate(x, scale_factor=2.0))), dim=1)


class Generator(nn.Module):
    """z `[B, Z]` to pictures `[B, 3, R, R]` in [-1, 1]; FastGAN's, made small (arXiv 2101.04775).

    The 4 x 4 map weighs the channels of the last one (skip-layer excitation): what z says of the
    whole picture, a coat's colour say, reaches the pixels by a short way.
    """

    def __init__(self, resolution: int, z_dim: int) -> None:
        super().__init__()
        sizes = [size for size in CHANNELS if size <= resolution]
        first, last = CHANNELS[4], CHANNELS[resolution]
        self.first = nn.Sequential(
            nn.ConvTranspose2d(z_dim, 2 * first, 4, bias=False),
            nn.BatchNorm2d(2 * first),
            nn.GLU(1),
        )
        self.ups = nn.Sequential(
            *(Up(CHANNELS[size // 2], CHANNELS[size]) for size in sizes if size > 4)
        )
        self.excite = nn.Sequential(
            nn.Conv2d(first, last, 4), nn.SiLU(), nn.Conv2d(last, last, 1), nn.Sigmoid()
        )
        self.to_rgb = nn.Conv2d(last, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        on_sphere = F.normalize(z, dim=1) * z.shape[1] ** 0.5  # where Gaussian noise nearly lies
        x = self.first(on_sphere[:, :, None, None])
        pictures: Tensor = self.to_rgb(self.ups(x) * self.excite(x)).tanh()
        return pictures.float()


def critic(inputs: int, size: int, widest: int) -> nn.Sequential:
    """`[B, inputs, size, size]` to one logit for each place of a 4 x 4 grid.

    Each layer's weight is divided by its largest singular value (arXiv 1802.05957), so D cannot
    become so steep that it leaves G no gradient.
    """
    layers: list[nn.Module] = []
    width = max(48, inputs)
    while size > 4:
        outputs = min(widest, 2 * width if layers else width)
        layers += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
        inputs, width, size = outputs, outputs, size // 2
    layers += [spectral_norm(nn.Conv2d(inputs, inputs, 3, padding=1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(inputs, 1, 3, padding=1)))


class Discriminator(nn.Module):
    """Pictures `[B, 3, R, R]` to logits `[B, L]`, high for real: one critic for each thing read."""

    def __init__(self, resolution: int, features: str) -> None:
        super().__init__()
        self.network = PerceptualFeatures((1, 2, 4, 10)) if features == "efficientnet" else None
        with torch.no_grad():
            maps = self.read(torch.zeros(1, 3, resolution, resolution))
        self.critics = nn.ModuleList(critic(m.shape[1], m.shape[2], 192) for m in maps)

    def read(self, x: Tensor) -> list[Tensor]:
        """What the critics look at: the picture, and feature maps of it at twice the size."""
        maps = [x.contiguous(memory_format=torch.channels_last)]
        if self.network is not None:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = self.network.stem(x.contiguous(memory_format=torch.channels_last))
            for index, block in enumerate(self.network.blocks):
                x = block(x)
                if index in self.network.chosen:
                    maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        logits = [look(seen) for look, seen in zip(self.critics, self.read(x), strict=True)]
        return torch.cat([logit.float().flatten(1) for logit in logits], dim=1)
