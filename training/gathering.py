"""From photos and a base to what the steps draw from: latents and prompt embeddings, once each."""

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline
from torch import Tensor

from models.catalog import Catalog
from models.errors import ModelsError
from training.caching import cached, content_of, weights_of
from training.captioning import tokenise
from training.dreambooth_config import DreamBoothConfig
from training.material import Batch, Draws, Examples, crop_latents, encode, text_table
from training.prior import class_latents, class_photos
from training.step import Texts
from training.subjects import Subjects
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
    class_prompts = list(config.class_prompts or class_prompts_of(config.base, catalog))
    encoded_by = {
        "vae": weights_of(pipeline.vae),
        "precision": accelerator.mixed_precision,
        "resolution": resolution,
    }
    with accelerator.autocast():
        latents, origins = _crops(config, pipeline, subjects.pictures[learned], encoded_by, cache)
        prior = _prior(config, pipeline, class_prompts, encoded_by, cache)
        checked = checked[torch.linspace(0, len(checked) - 1, min(ROWS, len(checked))).long()]
        margin = (subjects.pictures.shape[-1] - resolution) // 2
        window = slice(margin, margin + resolution)
        validated = encode(pipeline, subjects.pictures[checked][:, :, window, window])

        table = text_table(*subjects.prompts, subjects.instance_prompts, class_prompts, [""])
        token_ids = tokenise(pipeline.tokenizer, list(table)).to(accelerator.device)
        with torch.no_grad():
            parts = [pipeline.text_encoder(ids)[0] for ids in token_ids.split(64)]

    origins = learned[origins]
    class_rows = [table[prompt] for prompt in class_prompts]
    draws = Draws(
        instance=Examples(
            latents,
            [[table[text] for text in subjects.prompts[row]] for row in origins.tolist()],
            subjects.draw_weights(config.frontal_bias)[origins],
        ),
        prior=None
        if prior is None
        else Examples(
            prior,
            [[class_rows[row % len(class_rows)]] for row in range(len(prior))],
            torch.ones(len(prior)),
        ),
        class_texts=tuple(class_rows) if config.has_prior and config.prior == "prediction" else (),
        rows=config.rows,
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


def class_prompts_of(base: str, catalog: Catalog) -> tuple[str, ...]:
    """The prior's prompt that the base's manifest names, or the usual one."""
    try:
        prompt = catalog.get(base).manifest.class_prompt
    except ModelsError:
        prompt = None
    return (prompt or "a photo of a dog",)


def _crops(
    config: DreamBoothConfig,
    pipeline: StableDiffusionPipeline,
    pictures: Tensor,
    encoded_by: dict[str, str | int],
    cache: Path,
) -> tuple[Tensor, Tensor]:
    settings = {"crops": config.crops_per_photo, "flips": config.flips, "seed": config.seed}
    side = int(encoded_by["resolution"])

    def make() -> dict[str, Tensor]:
        latents, rows = crop_latents(
            pipeline, pictures, side, config.crops_per_photo, config.flips, config.seed
        )
        return {"latents": latents, "rows": rows}

    parts = {"photos": content_of(pictures)} | settings | encoded_by
    made = cached(cache, "latents", parts, make)
    return made["latents"], made["rows"]


def _prior(
    config: DreamBoothConfig,
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    encoded_by: dict[str, str | int],
    cache: Path,
) -> Tensor | None:
    """Latents of the class `[N, C, h, w]`; None where the prior takes none."""
    side = int(encoded_by["resolution"])
    if not config.has_prior or config.prior == "prediction":
        return None
    if config.prior == "generated":
        return class_latents(pipeline, prompts, config.class_images, side, config.seed, cache)
    assert config.class_photos is not None
    photos = class_photos(config.class_photos, side)
    parts = {"class_photos": content_of(photos)} | encoded_by
    return cached(cache, "latents", parts, lambda: {"latents": encode(pipeline, photos)})["latents"]


def _judged_photos(subjects: Subjects, held_out: Tensor, most: int = 16) -> list[Tensor]:
    """Photos to judge samples by: one crop of each photo, those of the training set, as the
    samples must not be copies of them."""
    chosen = []
    for subject in range(len(subjects.instance_prompts)):
        rows = ((subjects.subject_rows == subject) & ~held_out).nonzero().flatten()
        first = {int(subjects.photo_rows[row]): row for row in rows.flip(0)}
        chosen.append(subjects.pictures[torch.stack(list(first.values()))[:most]])
    return chosen
