"""A generative adversarial network on crops of dogs: `python -m training.labs.gan --breeds pug`.

Goodfellow et al. 2014 (arXiv 1406.2661): a generator G makes pictures of noise z, a discriminator D
tells them from photos, and each is trained against the other. What makes it work on few photos and
no GPU: hinge losses, spectral norms, two learning rates, one augmentation for real and fake, and a
D that reads the features of a network that knows pictures (Projected GAN, arXiv 2111.01007).
"""

import sys
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from training.checkpoints import Checkpoint
from training.config import ConfigError, check_least
from training.errors import Diverged, Stopped
from training.evaluation.metrics import pixel_vectors
from training.labs.augmentation import AUGMENTATIONS, augment
from training.labs.gan_networks import CHANNELS, Discriminator, Generator
from training.labs.material import Material, read_material
from training.labs.runs import (
    History,
    chart,
    lerp_average,
    open_run,
    run_lab,
    save_film,
    save_network,
    save_samples,
    smooth,
)
from training.pictures import grid, normalise, pixels, to_pictures
from training.stopping import stop_requests

SHOWN = 32
"""Pictures of the grids and of the film, always of the same noise."""


@dataclass(frozen=True)
class GANConfig:
    """The options of the command."""

    dataset: Path = Path("artifacts/data/stanford_dogs")
    """A folder that `python -m data prepare` wrote, or any folder of photos."""
    breeds: tuple[str, ...] = ()
    """Of the dataset; all without it. A small network in minutes learns one to three."""
    name: str = "gan"
    resolution: int = 64
    steps: int = 1500
    batch_size: int = 32
    generator_rate: float = 4e-4
    discriminator_rate: float = 4e-4
    """Two time scales (arXiv 1706.08500): the two need not learn at one rate."""
    discriminator_steps: int = 1
    """Steps of D for each of G."""
    features: Literal["efficientnet", "none"] = "efficientnet"
    """What D reads beside the pixels: a frozen classifier's feature maps, or nothing."""
    augment: tuple[str, ...] = ("colour", "translation", "cutout")
    z_dim: int = 128
    ema_decay: float = 0.995
    sample_every: int = 50
    samples: int = 192
    """Pictures that the finished generator leaves for `python -m training.labs.scores`."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resolution not in CHANNELS or self.resolution < 16:
            raise ConfigError(f"resolution: {self.resolution} is not one of 16, 32, 64, 128")
        if unknown := set(self.augment) - set(AUGMENTATIONS):
            known = ", ".join(AUGMENTATIONS)
            raise ConfigError(f"augment: {', '.join(sorted(unknown))} is none of {known}")
        least = {"steps": 1, "batch_size": 2, "discriminator_steps": 1, "sample_every": 1}
        check_least(self, least | {"samples": 2, "z_dim": 1})


# The game -------------------------------------------------------------------------------------


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))): only what is not yet told apart by a margin."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """-E D(G(z)) (arXiv 1705.02894)."""
    return -fake.mean()


def train(config: GANConfig, material: Material, folder: Path) -> tuple[Generator, History]:
    """Play the game for `config.steps`; the averaged generator and the curves. Resumes exactly."""
    torch.manual_seed(config.seed)
    random = torch.Generator().manual_seed(config.seed)
    shown = torch.randn(SHOWN, config.z_dim, generator=random)
    g = Generator(config.resolution, config.z_dim).to(memory_format=torch.channels_last)
    d = Discriminator(config.resolution, config.features).to(memory_format=torch.channels_last)
    trained_d = [p for p in d.parameters() if p.requires_grad]
    ema = deepcopy(g).requires_grad_(False).eval()
    # No momentum: where the gradients point follows the opponent, and yesterday's is gone.
    g_optimizer = torch.optim.Adam(g.parameters(), config.generator_rate, betas=(0.0, 0.99))
    d_optimizer = torch.optim.Adam(trained_d, config.discriminator_rate, betas=(0.0, 0.99))
    history = History()
    checkpoint = Checkpoint(
        folder / "state.pt",
        random,
        g=g,
        d=d,
        ema=ema,
        g_optimizer=g_optimizer,
        d_optimizer=d_optimizer,
        history=history,
    )
    step = checkpoint.resume()

    def played(pictures: Tensor, u: Tensor) -> Tensor:
        logits: Tensor = d(augment(pictures, u, config.augment))
        return logits

    def noise() -> Tensor:
        return torch.randn(config.batch_size, config.z_dim, generator=random)

    bf16 = torch.autocast("cpu", torch.bfloat16)
    with (
        stop_requests() as stop,
        tqdm(total=config.steps, initial=step, desc=config.name, unit="step") as bar,
    ):
        stop.waits, stop.saved = True, step
        while step < config.steps and stop.signal is None:
            started = time.monotonic()
            for parameter in trained_d:
                parameter.requires_grad_(True)
            for _ in range(config.discriminator_steps):
                x = normalise(material.draw(config.batch_size, random))
                u = torch.rand(config.batch_size, 7, generator=random)
                with bf16:
                    with torch.no_grad():
                        fakes = g(noise())
                    real, fake = played(x, u), played(fakes, u)
                d_loss = discriminator_loss(real, fake)
                d_optimizer.zero_grad(set_to_none=True)
                d_loss.backward()
                d_optimizer.step()

            for parameter in trained_d:  # G's step needs the gradient through D, not that of D
                parameter.requires_grad_(False)
            with bf16:
                u = torch.rand(config.batch_size, 7, generator=random)
                g_loss = generator_loss(played(g(noise()), u))
            g_optimizer.zero_grad(set_to_none=True)
            g_loss.backward()
            g_optimizer.step()
            step += 1
            lerp_average(ema, g, config.ema_decay, step)

            row = {
                "step": step,
                "d_loss": d_loss.item(),
                "g_loss": g_loss.item(),
                "real": real.mean().item(),
                "fake": fake.mean().item(),
            }
            if not all(value == value for value in row.values()):
                raise Diverged(f"a loss is not a number at step {step}: lower the learning rates")
            history.rows.append(row)
            history.seconds += time.monotonic() - started
            bar.update()
            bar.set_postfix(D=f"{row['d_loss']:.2f}", G=f"{row['g_loss']:.2f}")
            if step % config.sample_every == 0 or step == config.steps:
                pictures = make(ema, shown)
                row |= collapse_indicators(pixels(pictures), material)
                frame = folder / "frames" / f"{step:06d}.png"
                frame.parent.mkdir(exist_ok=True)
                grid(pictures, 8).save(frame)
                checkpoint.save(step)
                stop.saved = step
        if stop.signal is not None:
            checkpoint.save(step)
            raise Stopped(stop.signal, step)
    return ema, history


# What came of it ------------------------------------------------------------------------------


@torch.no_grad()
def make(generator: Generator, z: Tensor) -> list[Image.Image]:
    """Pictures of z `[N, Z]`."""
    with torch.autocast("cpu", torch.bfloat16):
        return [p for part in z.split(64) for p in to_pictures(generator(part))]


def collapse_indicators(pictures: Tensor, material: Material) -> dict[str, float]:
    """Two signs of a generator that makes one thing of all noise; bytes `[N, 3, R, R]`.

    `spread`: the mean distance of two pictures, over that of two held-out photos (in pixels at
    16 px): 1 is as diverse as photos, 0 is collapsed. `photos_met`: how many training photos are
    the nearest one of some picture, over the same count for held-out photos.
    """
    count = min(len(pictures), len(material.held_out))
    real = pixel_vectors(material.held_out[:: len(material.held_out) // count][:count], 16)
    fake = pixel_vectors(pictures[:count], 16)
    photos = pixel_vectors(material.pictures, 16)

    def met(vectors: Tensor) -> int:
        return len(torch.cdist(vectors, photos).argmin(dim=1).unique())

    spread = torch.pdist(fake).mean() / torch.pdist(real).mean()
    return {"spread": float(spread), "photos_met": met(fake) / met(real)}


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """From a to b `[Z]` along the sphere: the straight line would leave where noise lies."""
    angle = torch.acos(F.cosine_similarity(a, b, dim=0).clamp(-1, 1))
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def interpolation(generator: Generator, z_dim: int, seed: int, rows: int = 4) -> Image.Image:
    """Rows of nine pictures, each from one noise to another."""
    ends = torch.randn(rows, 2, z_dim, generator=torch.Generator().manual_seed(seed))
    z = torch.stack([slerp(a, b, i / 8) for a, b in ends for i in range(9)])
    return grid(make(generator, z), 9)


def load_generator(config: GANConfig, folder: Path) -> Generator:
    """The averaged generator of a finished run."""
    generator = Generator(config.resolution, config.z_dim).eval()
    generator.load_state_dict(load_file(folder / "generator.safetensors"))
    return generator


def run(config: GANConfig, home: Path) -> Path:
    """Train, and write into `home`/NAME: the generator, frames, film, curves, samples."""
    material = read_material(config.dataset, config.breeds, config.resolution)
    folder = home / config.name
    open_run(folder, config, material.fingerprint)
    generator, history = train(config, material, folder)
    save_network(generator, folder / "generator.safetensors")
    frames = [Image.open(path) for path in sorted((folder / "frames").iterdir())]
    save_film(frames, folder / "film.webp")
    interpolation(generator, config.z_dim, config.seed).save(folder / "interpolation.png")
    curves(history).savefig(folder / "curves.png", dpi=90)
    z = torch.randn(
        config.samples, config.z_dim, generator=torch.Generator().manual_seed(config.seed + 1)
    )
    save_samples(folder, pixels(make(generator, z)), history, material.names)
    return folder


def curves(history: History) -> Figure:
    """Losses, logits and the signs of collapse over the steps."""

    def lines(keys: dict[str, str]) -> dict[str, tuple[list[float], list[float]]]:
        found = {label: history.curve(key) for label, key in keys.items()}
        return {label: (steps, smooth(values)) for label, (steps, values) in found.items()}

    signs = {"spread": "spread", "photos met": "photos_met"}
    return chart(
        {
            "losses": lines({"discriminator": "d_loss", "generator": "g_loss"}),
            "mean logits of the discriminator": lines({"photos": "real", "generated": "fake"}),
            "beside photos (1)": {label: history.curve(key) for label, key in signs.items()},
        }
    )


if __name__ == "__main__":
    sys.exit(run_lab(GANConfig, run, "training.labs.gan", __doc__))
