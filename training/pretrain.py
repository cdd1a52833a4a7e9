"""Pretraining of the embedded base: autoencoder, latents and U-Net, each resumed after a kill."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from data.breeds import BREEDS
from data.classes import PhotoClass, class_in_report
from models.catalog import Catalog
from models.manifest import Manifest
from training.autoencoder import (
    AutoencoderConfig,
    encode_means,
    fold_statistics,
    train_autoencoder,
)
from training.base_unet import LatentSet, UNetConfig, build_unet, train_unet
from training.captioning import CaptionTable, base_captions
from training.checkpoints import load_state, save_pipeline, save_state
from training.config import ConfigError, check_share, plain
from training.pictures import draw_weights, random_crops
from training.polish import PolishConfig, polish
from training.prepared import names_meant, pictures_of, read_prepared
from training.text import (
    TextConfig,
    build_text_encoder,
    spread_unseen_tokens,
    train_tokenizer,
)
from training.transplant import taken_over
from training.versions import library_versions


@dataclass(frozen=True)
class PretrainConfig:
    """A recipe file: what `python -m training pretrain --config` reads."""

    name: str = "dogbooth-base"
    description: str = ""
    dataset: Path = Path("artifacts/data/stanford_dogs")
    """A folder that `python -m data prepare` wrote."""
    work: Path = Path("artifacts/pretrain")
    """Checkpoints, curves and samples."""
    seed: int = 0
    resolution: int = 128
    exclude_breeds: tuple[str, ...] = ()
    """Breeds of the dataset that this base never sees, so that DreamBooth has some to teach."""
    held_out: float = 0.05
    """Share of the photos that nothing is trained on."""
    latent_evenness: float = 1.0
    """0 leaves the latent channels the deviations that the autoencoder gave them, 1 makes all alike
    (see fold_statistics). Less lets noise hide detail before shapes, as it does in pictures."""
    crops_per_photo: int = 2
    """Random crops cached as latents, each also flipped."""
    default_steps: int = 25
    default_guidance_scale: float = 5.0
    class_prompt: str = "a photo of a dog"
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    polish: PolishConfig = field(default_factory=PolishConfig)
    text: TextConfig = field(default_factory=TextConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)

    def __post_init__(self) -> None:
        check_share(self, "held_out")
        drawn = max(stage.resolution for stage in self.unet.stages)
        if self.resolution != drawn:
            raise ConfigError(f"resolution: {self.resolution} is not the largest of unet.stages")


def recipe_path(name: str = "embedded") -> Path:
    """The recipe that made the shipped weights."""
    return Path(str(resources.files("training") / "recipes" / f"{name}.toml"))


@dataclass(frozen=True)
class Photos:
    """A prepared dataset in memory, photos parted into training and held out."""

    pictures: Tensor
    """Bytes `[N, 3, S, S]`."""
    kinds: list[tuple[str, str, str]]
    """(breed, breed_es, crop) of each row."""
    scenes: list[str]
    """What surrounds the animal in each row: a key of data.scenes.SCENES, or ""."""
    training: Tensor
    held_out: Tensor
    """Row numbers; all crops of one photo are on one side."""
    fingerprint: str
    shown: PhotoClass
    """Dogs, or what else they show."""


def load_photos(
    dataset: Path, resolution: int, exclude_breeds: Sequence[str], held_out: float, seed: int
) -> Photos:
    """Read the prepared dataset; raise ConfigError when it is missing or too small."""
    rows, report = read_prepared(dataset)
    unseen = names_meant(rows, exclude_breeds)
    rows = rows.select([i for i, breed in enumerate(rows["breed"]) if breed not in unseen])
    pictures = pictures_of(rows)
    if pictures.shape[-1] < resolution:
        raise ConfigError(
            f"resolution: {resolution} px is above the dataset's {pictures.shape[-1]} px"
        )
    if "scene" not in rows.column_names:
        raise ConfigError(
            f"dataset: {str(dataset)!r} tells no scenes; `python -m data prepare` it anew"
        )
    sources = sorted(set(rows["source"]))
    order = torch.randperm(len(sources), generator=torch.Generator().manual_seed(seed))
    outside = {sources[i] for i in order[: max(1, int(held_out * len(sources)))]}
    is_outside = torch.tensor([source in outside for source in rows["source"]])
    return Photos(
        pictures=pictures,
        kinds=list(zip(rows["breed"], rows["breed_es"], rows["crop"], strict=True)),
        scenes=list(rows["scene"]),
        training=torch.nonzero(~is_outside).flatten(),
        held_out=torch.nonzero(is_outside).flatten(),
        fingerprint=report["fingerprint"],
        shown=class_in_report(report),
    )


def pretrain(config: PretrainConfig, catalog: Catalog, until: str = "unet") -> Path | None:
    """Run the stages up to `until`; publish the base when the last one is through.

    A stage that was finished is not run again: it is read from `config.work`.
    """
    photos = load_photos(
        config.dataset, config.resolution, config.exclude_breeds, config.held_out, config.seed
    )
    seen = photos.pictures[photos.training]
    unseen = centre_crops(photos.pictures[photos.held_out], config.resolution)
    vae = train_autoencoder(seen, unseen, config.autoencoder, config.seed, config.work)
    if until == "autoencoder":
        return None
    vae, sets = make_latents(vae, photos, config)
    if until == "latents":
        return None
    if config.polish.steps:
        vae = polish(vae, seen, unseen, config.polish, config.seed, config.work)
    if until == "polish":
        return None
    largest, _ = sets[config.resolution]
    if config.unet.start_from is None:
        tokenizer, text_encoder, unet = untrained(config, photos, largest.latents)
    else:
        tokenizer, text_encoder, unet = taken_over(config.unet.start_from, vae, unseen)
    rows = [(*kind, scene) for kind, scene in zip(photos.kinds, photos.scenes, strict=True)]
    shares = config.unet.empty_captions, config.unet.generic_captions
    captions = CaptionTable(tokenizer, rows, *shares, photos.shown)
    pipeline = train_unet(
        vae, tokenizer, text_encoder, unet, sets, captions, config.unet, config.seed, config.work
    )
    spread_unseen_tokens(pipeline.text_encoder, captions.token_ids(), config.seed)
    return publish_base(pipeline, photos, config, catalog)


def untrained(
    config: PretrainConfig, photos: Photos, latents: Tensor
) -> tuple[CLIPTokenizer, CLIPTextModel, UNet2DConditionModel]:
    """Text side and U-Net for `latents` `[N, C, h, w]`, to be trained from scratch."""
    names = [(breed.name, breed.spanish) for breed in BREEDS]
    names += sorted({kind[:2] for kind in photos.kinds} - set(names))
    texts = [
        text
        for name, spanish in names
        for crop in ("portrait", "box")
        for text in base_captions(name, spanish, crop, shown=photos.shown)
    ]
    tokenizer = train_tokenizer(texts, config.text)
    torch.manual_seed(config.seed)
    text_encoder = build_text_encoder(tokenizer, config.text)
    _, channels, side, _ = latents.shape
    torch.manual_seed(config.seed)
    unet = build_unet(config.unet, channels, side, config.text.width)
    return tokenizer, text_encoder, unet


def centre_crops(pictures: Tensor, size: int) -> Tensor:
    """The middle `size` x `size` of `[N, 3, S, S]`."""
    edge = (pictures.shape[-1] - size) // 2
    return pictures[..., edge : edge + size, edge : edge + size]


def make_latents(
    vae: AutoencoderKL, photos: Photos, config: PretrainConfig
) -> tuple[AutoencoderKL, dict[int, tuple[LatentSet, LatentSet]]]:
    """Encode crops and flips of every photo at every stage's resolution, once.

    Folds the latents' statistics into the autoencoder's weights first. Reads and writes
    `config.work`/latents.pt.
    """
    path = config.work / "latents.pt"
    resolutions = sorted({stage.resolution for stage in config.unet.stages})
    state = load_state(path)
    if state is None:
        generator = torch.Generator().manual_seed(config.seed)
        sample = photos.training[torch.randint(len(photos.training), (1024,), generator=generator)]
        crops = random_crops(photos.pictures[sample], config.resolution, generator)
        fold_statistics(vae, encode_means(vae, crops), config.latent_evenness)
        state = {"vae": vae.state_dict()}
        for side, rows in (("training", photos.training), ("held_out", photos.held_out)):
            for resolution in resolutions:
                state[f"{side}_{resolution}"] = encode_crops(
                    vae, photos.pictures, rows, resolution, config, generator
                )
            state[f"{side}_rows"] = rows.repeat(2 * config.crops_per_photo)
        save_state(path, state)
    vae.load_state_dict(state["vae"])
    row_weights = weights_of(photos, config.unet)

    def latent_set(side: str, resolution: int) -> LatentSet:
        rows = state[f"{side}_rows"]
        return LatentSet(state[f"{side}_{resolution}"], rows, row_weights[rows])

    return vae, {
        resolution: (latent_set("training", resolution), latent_set("held_out", resolution))
        for resolution in resolutions
    }


def weights_of(photos: Photos, config: UNetConfig) -> Tensor:
    """How often each row `[N]` is drawn: breeds alike, heads and boxes by their shares."""
    breeds = sorted({kind[:2] for kind in photos.kinds})
    numbers = torch.tensor([breeds.index(kind[:2]) for kind in photos.kinds])
    whole = torch.tensor([kind[2] != "portrait" for kind in photos.kinds])
    return draw_weights(photos.pictures, numbers, whole, config.frontal_bias, config.box_share)


def encode_crops(
    vae: AutoencoderKL,
    pictures: Tensor,
    rows: Tensor,
    resolution: int,
    config: PretrainConfig,
    generator: torch.Generator,
) -> Tensor:
    """Latents `[2 * crops_per_photo * len(rows), C, h, w]` in fp16: each crop and its mirror."""
    parts = []
    for _ in range(config.crops_per_photo):
        crops = torch.cat(
            [random_crops(pictures[part], config.resolution, generator) for part in rows.split(256)]
        )
        if resolution < config.resolution:
            crops = torch.cat(
                [
                    torch.nn.functional.interpolate(part.float(), size=resolution, mode="area")
                    .round()
                    .byte()
                    for part in crops.split(256)
                ]
            )
        for mirrored in (crops, crops.flip(-1)):
            chunks = tqdm(mirrored.split(256), desc=f"latents {resolution} px", unit="batch")
            parts.append(torch.cat([encode_means(vae, chunk) for chunk in chunks]).half())
    return torch.cat(parts)


def publish_base(
    pipeline: StableDiffusionPipeline, photos: Photos, config: PretrainConfig, catalog: Catalog
) -> Path:
    """Write the averaged pipeline as fp16 safetensors into the catalog; return its folder."""
    manifest = Manifest(
        name=config.name,
        kind="base",
        description=config.description,
        class_prompt=config.class_prompt,
        breeds=sorted({breed for breed, _, _ in photos.kinds}),
        resolution=config.resolution,
        default_steps=config.default_steps,
        default_guidance_scale=config.default_guidance_scale,
        created=dt.datetime.now(dt.UTC),
        training=training_record(config, photos),
    )
    pipeline.vae.register_to_config(sample_size=config.resolution)
    with catalog.publish(manifest, replace=True) as folder:
        save_pipeline(pipeline, folder)
    return catalog.get(config.name).folder


def training_record(config: PretrainConfig, photos: Photos) -> dict[str, Any]:
    """Everything that the run was, for the manifest."""
    return {
        "command": "pretrain",
        "config": plain(config),
        "data_fingerprint": photos.fingerprint,
        "photos": {"training": len(photos.training), "held_out": len(photos.held_out)},
        "versions": library_versions(),
    }
