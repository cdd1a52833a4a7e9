"""From photos and a base to what the steps draw from: latents and prompt embeddings, once each."""

from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline
from torch import Tensor

from data.captions import with_article
from models.catalog import Catalog
from models.errors import ModelsError
from training.caching import cached, content_of, weights_of
from training.captioning import tokenise
from training.config import ConfigError
from training.dreambooth_config import DreamBoothConfig
from training.material import Batch, Draws, Examples, crop_latents, encode, text_table
from training.prior import class_latents, class_photos
from training.step import Texts
from training.subjects import Subjects, read_others
from training.validation import ROWS, validation_batch


@dataclass(frozen=True)
class Gathered:
    """All that is computed once."""

    draws: Draws
    validation: Batch | None
    validated_on: str
    """What the validation batch holds, in words."""
    photos: list[Tensor]
    """Of each subject the photos that samples are judged by, bytes `[N, 3, S, S]`."""
    class_prompts: list[str]
    texts: Texts


def gather(
    config: DreamBoothConfig,
    catalog: Catalog,
    subjects: Subjects,
    pipeline: StableDiffusionPipeline,
    accelerator: Accelerator,
    resolution: int,
    cache: Path,
) -> Gathered:
    """Latents of crops, of the class and for validation, and the embeddings of every prompt.

    Latents are kept in `cache` by the content of photos, weights and settings.
    """
    everything = torch.ones(len(subjects.pictures), dtype=torch.bool)
    held_out = subjects.held_out() if config.validate_every else ~everything
    learned = (~held_out).nonzero().flatten()
    checked = held_out.nonzero().flatten() if held_out.any() else learned
    class_prompts = list(config.class_prompts or [class_prompt_of(config.base, catalog, subjects)])
    others = None
    if config.has_prior and config.prior == "breeds":
        others = read_others(config, subjects)
    table = text_table(
        *subjects.prompts,
        *(others.prompts if others else ()),
        *(texts for bucket in subjects.buckets for texts in bucket.prompts),
        subjects.instance_prompts,
        class_prompts,
        [""],
    )
    precision = accelerator.mixed_precision
    shaped = Shaped(config, pipeline, table, class_prompts, others, precision, cache)
    share = config.class_images / (len(subjects.pictures) + sum(map(len, subjects.buckets)))
    with accelerator.autocast():
        instance, prior = shaped(
            subjects.pictures[learned],
            (resolution, resolution),
            [subjects.prompts[row] for row in learned.tolist()],
            subjects.draw_weights(config.frontal_bias, config.box_share)[learned],
            config.class_images,
        )
        buckets = []
        for bucket in subjects.buckets:
            rows = (~torch.isin(bucket.photo_rows, subjects.photo_rows[held_out])).nonzero()
            rows = rows.flatten()
            if len(rows):
                size = trained_size(bucket.pictures, subjects, resolution, pipeline)
                prompts = [bucket.prompts[row] for row in rows.tolist()]
                weights = torch.ones(len(rows)) * instance.weights.mean()
                count = max(len(class_prompts), round(share * len(bucket)))
                buckets.append(shaped(bucket.pictures[rows], size, prompts, weights, count))
        checked = checked[torch.linspace(0, len(checked) - 1, min(ROWS, len(checked))).long()]
        margin = (subjects.pictures.shape[-1] - resolution) // 2
        window = slice(margin, margin + resolution)
        validated = encode(pipeline, subjects.pictures[checked][:, :, window, window])

        token_ids = tokenise(pipeline.tokenizer, list(table)).to(accelerator.device)
        with torch.no_grad():
            parts = [pipeline.text_encoder(ids)[0] for ids in token_ids.split(64)]

    class_rows = tuple(table[prompt] for prompt in class_prompts)
    draws = Draws(
        instance=instance,
        prior=prior,
        buckets=tuple(buckets),
        class_texts=class_rows if config.has_prior and config.prior == "prediction" else (),
        rows=config.rows * accelerator.num_processes,
        timesteps=pipeline.scheduler.config.num_train_timesteps,
        noise_offset=config.noise_offset,
        caption_dropout=config.caption_dropout,
        empty_text=table[""],
    )
    texts = [table[subjects.prompts[row][0]] for row in checked.tolist()]
    return Gathered(
        draws=draws,
        validation=validation_batch(validated, texts, draws.timesteps)
        if config.validate_every
        else None,
        validated_on="held-out photos" if held_out.any() else "photos of the training itself",
        photos=_judged_photos(subjects, held_out),
        class_prompts=class_prompts,
        texts=Texts(table, token_ids, torch.cat(parts)),
    )


def class_prompt_of(base: str, catalog: Catalog, subjects: Subjects) -> str:
    """The prior's prompt that the base's manifest names, or the usual one, which names the class.

    The manifest's would not do for a cat where it names dogs.
    """
    usual = f"a photo of {with_article(subjects.class_word)}"
    try:
        prompt = catalog.get(base).manifest.class_prompt
    except ModelsError:
        return usual
    return prompt if prompt and subjects.class_word in prompt.split() else usual


def trained_size(
    pictures: Tensor, subjects: Subjects, resolution: int, pipeline: StableDiffusionPipeline
) -> tuple[int, int]:
    """Height and width that a bucket's pictures are trained at, as its squares at `resolution`."""
    side, factor = subjects.pictures.shape[-1], pipeline.vae_scale_factor
    if resolution % (8 * factor):
        raise ConfigError(f"resolution: {resolution}; buckets need a multiple of {8 * factor}")
    height, width = (round(8 * length / side) * resolution // 8 for length in pictures.shape[-2:])
    return height, width


@dataclass(frozen=True)
class Shaped:
    """Makes what steps draw from, of pictures of one shape."""

    config: DreamBoothConfig
    pipeline: StableDiffusionPipeline
    table: dict[str, int]
    class_prompts: list[str]
    others: Subjects | None
    """Whom `prior = "breeds"` shows."""
    precision: str
    cache: Path

    def __call__(
        self,
        pictures: Tensor,
        size: tuple[int, int],
        prompts: list[list[str]],
        weights: Tensor,
        class_images: int,
    ) -> tuple[Examples, Examples | None]:
        """The subject's latents of bytes `[N, 3, H, W]` at `size`, and those of the class."""
        encoded_by = {
            "vae": weights_of(self.pipeline.vae),
            "precision": self.precision,
            "size": size,
        }
        crops = self.config.crops_per_photo
        latents, rows = self._crops(pictures, size, crops, encoded_by)
        texts = [[self.table[text] for text in prompts[row]] for row in rows.tolist()]
        instance = Examples(latents, texts, weights[rows])
        class_rows = [self.table[prompt] for prompt in self.class_prompts]
        if self.others is not None:
            return instance, self._others(self.others, size, class_rows, encoded_by)
        of_class = self._class(size, class_images, encoded_by)
        if of_class is None:
            return instance, None
        texts = [[class_rows[row % len(class_rows)]] for row in range(len(of_class))]
        return instance, Examples(of_class, texts, torch.ones(len(of_class)))

    def _others(
        self,
        others: Subjects,
        size: tuple[int, int],
        class_rows: list[int],
        encoded_by: dict[str, Any],
    ) -> Examples:
        """One crop of each photo, by its own captions, the class prompts in turn, or none."""
        latents, rows = self._crops(others.pictures, size, 1, encoded_by)
        texts = []
        for prompts in others.prompts:
            count = len(prompts)
            own = [self.table[text] for text in prompts]
            empty = [self.table[""]] * (count // 2)
            texts.append(own + list(islice(cycle(class_rows), count)) + empty)
        weights = others.draw_weights(self.config.frontal_bias, self.config.box_share)
        return Examples(latents, [texts[row] for row in rows.tolist()], weights[rows])

    def _crops(
        self, pictures: Tensor, size: tuple[int, int], crops: int, encoded_by: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        config = self.config
        settings = {"crops": crops, "flips": config.flips, "seed": config.seed}

        def make() -> dict[str, Tensor]:
            latents, rows = crop_latents(
                self.pipeline, pictures, size, crops, config.flips, config.seed
            )
            return {"latents": latents, "rows": rows}

        parts = {"photos": content_of(pictures)} | settings | encoded_by
        made = cached(self.cache, "latents", parts, make)
        return made["latents"], made["rows"]

    def _class(
        self, size: tuple[int, int], count: int, encoded_by: dict[str, Any]
    ) -> Tensor | None:
        """Latents of the class `[N, C, h, w]`; None where the prior takes none."""
        config = self.config
        if not config.has_prior or config.prior == "prediction":
            return None
        if config.prior == "generated":
            return class_latents(
                self.pipeline, self.class_prompts, count, size, config.seed, self.cache
            )
        assert config.class_photos is not None
        photos = class_photos(config.class_photos, size)
        parts = {"class_photos": content_of(photos)} | encoded_by
        made = cached(
            self.cache, "latents", parts, lambda: {"latents": encode(self.pipeline, photos)}
        )
        return made["latents"]


def _judged_photos(subjects: Subjects, held_out: Tensor, most: int = 16) -> list[Tensor]:
    """Photos to judge samples by: one crop of each photo, those of the training set, as the
    samples must not be copies of them."""
    chosen = []
    for subject in range(len(subjects.instance_prompts)):
        rows = ((subjects.subject_rows == subject) & ~held_out).nonzero().flatten()
        first = {int(subjects.photo_rows[row]): row for row in rows.flip(0)}
        chosen.append(subjects.pictures[torch.stack(list(first.values()))[:most]])
    return chosen
