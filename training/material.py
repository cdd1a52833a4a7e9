"""What the steps draw from: latents of photos and of the class, and what is said of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from training.objective import draw_noise
from training.pictures import normalise, random_crops


@dataclass(frozen=True)
class Examples:
    """Latents and the captions that each may go by."""

    latents: Tensor
    """`[M, C, h, w]` in fp32 on the CPU."""
    texts: list[list[int]]
    """For each latent its captions, as rows of the table of texts."""
    weights: Tensor
    """`[M]`: how often each is drawn."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, list[int]]:
        """`count` latents and a caption of each."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        picks = torch.rand(count, generator=generator).tolist()
        texts = [self.texts[row] for row in chosen.tolist()]
        captions = [own[int(pick * len(own))] for own, pick in zip(texts, picks, strict=True)]
        return self.latents[chosen], captions


@dataclass(frozen=True)
class Batch:
    """The rows of one step; those of the class, where there are any, stand behind the subject's."""

    latents: Tensor
    """`[B, C, h, w]`, or `[2B, C, h, w]` with a prior."""
    noise: Tensor
    timesteps: Tensor
    texts: Tensor
    """Rows of the table of texts."""
    instance_rows: int

    def share(self, index: int, count: int) -> "Batch":
        """The rows of process `index` of `count`: as many for each, and their class rows."""
        return next(islice(self.parts(self.instance_rows // count), index, None))

    def parts(self, size: int) -> Iterator["Batch"]:
        """Micro-batches of `size` subject rows and their class rows."""
        rows = torch.arange(len(self.latents)).view(-1, self.instance_rows)
        for columns in rows.split(size, dim=1):
            chosen = columns.reshape(-1)
            yield Batch(
                self.latents[chosen],
                self.noise[chosen],
                self.timesteps[chosen],
                self.texts[chosen],
                columns.shape[1],
            )

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`, latents in the order of memory that convolutions like."""
        return Batch(
            self.latents.to(device, memory_format=torch.channels_last),
            self.noise.to(device, memory_format=torch.channels_last),
            self.timesteps.to(device),
            self.texts.to(device),
            self.instance_rows,
        )


@dataclass(frozen=True)
class Draws:
    """How a step's batch is drawn."""

    instance: Examples
    prior: Examples | None
    """Latents of the class, or None where there are none."""
    buckets: tuple[tuple[Examples, Examples | None], ...]
    """The same of other aspect ratios: a step takes all its rows from one of them, or from
    `instance`, as often as their weights say."""
    class_texts: tuple[int, ...]
    """Rows of the class prompts for `prior = "prediction"`: the subject's own noisy latents come a
    second time with one of them; empty for the other priors."""
    rows: int
    """Subject rows of a step, of all processes."""
    timesteps: int
    """Timesteps of the base's noise schedule."""
    noise_offset: float
    caption_dropout: float
    empty_text: int
    """Row of the empty prompt."""

    def __call__(self, generator: torch.Generator) -> Batch:
        """The next batch; every random number of a step comes from here."""
        shapes = ((self.instance, self.prior), *self.buckets)
        instance, prior = shapes[0]
        if self.buckets:
            weights = torch.stack([of_shape.weights.sum() for of_shape, _ in shapes])
            instance, prior = shapes[int(torch.multinomial(weights, 1, generator=generator))]
        latents, texts = instance.draw(self.rows, generator)
        if self.caption_dropout:
            dropped = torch.rand(self.rows, generator=generator) < self.caption_dropout
            texts = [
                self.empty_text if gone else text
                for gone, text in zip(dropped.tolist(), texts, strict=True)
            ]
        if prior is not None:
            class_latents, class_texts = prior.draw(self.rows, generator)
            latents, texts = torch.cat([latents, class_latents]), texts + class_texts
        noise = draw_noise(latents.shape, self.noise_offset, generator)
        timesteps = torch.randint(self.timesteps, (len(latents),), generator=generator)
        if self.class_texts:
            picks = torch.randint(len(self.class_texts), (self.rows,), generator=generator)
            texts = texts + [self.class_texts[pick] for pick in picks.tolist()]
            latents, noise = latents.repeat(2, 1, 1, 1), noise.repeat(2, 1, 1, 1)
            timesteps = timesteps.repeat(2)
        return Batch(latents, noise, timesteps, torch.tensor(texts), self.rows)


@torch.no_grad()
def crop_latents(
    pipeline: StableDiffusionPipeline,
    pictures: Tensor,
    size: tuple[int, int],
    crops: int,
    flips: bool,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Latents `[M, C, h, w]` of random crops of bytes `[N, 3, H, W]`, and the row `[M]` of each.

    Crops have the height and width of `size`; pictures that are as large have one crop.
    """
    generator = torch.Generator().manual_seed(seed)
    copies = crops if pictures.shape[-2:] != size else 1
    parts = []
    for _ in range(copies):
        cut = random_crops(pictures, size, generator, flips)
        parts += [encode(pipeline, view) for view in ((cut, cut.flip(-1)) if flips else (cut,))]
    return torch.cat(parts), torch.arange(len(pictures)).repeat(len(parts))


@torch.no_grad()
def encode(pipeline: StableDiffusionPipeline, pictures: Tensor, batch_size: int = 8) -> Tensor:
    """Scaled latents `[N, C, h, w]` in fp32 on the CPU, of bytes `[N, 3, H, W]`."""
    vae = pipeline.vae
    size = max(1, batch_size * 128 * 128 // (pictures.shape[-1] * pictures.shape[-2]))
    parts = [
        vae.encode(normalise(part).to(vae.device, vae.dtype)).latent_dist.mean.float().cpu()
        for part in pictures.split(size)
    ]
    latents: Tensor = torch.cat(parts) * vae.config.scaling_factor
    return latents


def text_table(*groups: Sequence[str]) -> dict[str, int]:
    """Every text of `groups` once, with its row."""
    return {text: row for row, text in enumerate(sorted({t for group in groups for t in group}))}
