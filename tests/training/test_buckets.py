"""Photos that are learned in their own aspect ratios."""

from pathlib import Path

import pytest

from data.prepare import prepare_photos
from data.selection import Settings
from models.catalog import Catalog
from models.manifest import ADAPTER_FILE
from tests.training.conftest import draw_dog
from training.config import ConfigError
from training.dreambooth import dreambooth
from training.dreambooth_config import DreamBoothConfig, Prior
from training.preparation import prepare


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wide photos and a tall one, their squares and their buckets, 72 px."""
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate(((160, 120), (160, 120), (100, 160))):
        draw_dog(number, 160).crop((0, 0, *size)).save(folder / f"{number}.png")
    output = tmp_path_factory.mktemp("data") / "rex"
    settings = Settings(crops=("whole", "bucket"), resolution=72, min_side=8, dedup_distance=None)
    prepare_photos(folder, output, "rex", "dog", settings)
    return output


def config(dataset: Path, prior: Prior = "generated", resolution: int = 64) -> DreamBoothConfig:
    return DreamBoothConfig(
        name="fido",
        dataset=dataset,
        base="tiny",
        rank=2,
        steps=3,
        batch_size=2,
        resolution=resolution,
        prior=prior,
        class_images=2,
        warmup=0,
        sample_images=1,
        crops_per_photo=2,
    )


@pytest.mark.parametrize("prior", ["generated", "prediction"])
def test_each_step_draws_one_shape_and_its_class_in_the_same(
    shaped: Path, catalog: Catalog, tmp_path: Path, prior: Prior
) -> None:
    run = prepare(config(shaped, prior), catalog, tmp_path)
    shapes = {tuple(run.gathered.draws(run.generator).latents.shape[2:]) for _ in range(60)}
    assert shapes == {(8, 8), (7, 9), (10, 6)}
    for _ in range(6):
        batch = run.gathered.draws(run.generator)
        assert len(batch.latents) == 4
        assert run.step.gradients(batch, 2).isfinite()


def test_a_run_with_buckets_publishes(shaped: Path, catalog: Catalog, tmp_path: Path) -> None:
    folder = dreambooth(config(shaped), catalog, tmp_path / "work")
    assert (folder / ADAPTER_FILE).exists()


def test_a_resolution_that_latents_of_buckets_do_not_divide_is_refused(
    shaped: Path, catalog: Catalog, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="buckets need a multiple of 64"):
        prepare(config(shaped, resolution=56), catalog, tmp_path)


def test_a_prior_of_other_breeds_takes_no_buckets(
    shaped: Path, catalog: Catalog, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="prior: 'breeds' takes square crops only"):
        prepare(config(shaped, prior="breeds"), catalog, tmp_path)
