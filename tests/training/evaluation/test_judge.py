"""The judge on drawn pictures, and on real photos where they are."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from data.breeds import BREEDS, find_breeds
from data.classes import DOG_CLASSES
from data.efficientnet import CLASS_OF_SYNSET, Variant, load_efficientnet
from training.evaluation.judge import Judge
from training.evaluation.metrics import class_rate, top_k_rate
from training.pictures import pixels

REAL = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def noise(count: int, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_every_breed_has_a_class_of_its_own_and_dalmatians_have_none() -> None:
    classes = [CLASS_OF_SYNSET[breed.synset] for breed in BREEDS]
    assert len(set(classes)) == 120
    assert set(DOG_CLASSES) - set(classes) == {251}
    known = {"Chihuahua": 151, "golden retriever": 207, "Siberian husky": 250, "pug": 254}
    known |= {"Samoyed": 258, "standard poodle": 267, "dingo": 273, "African wild dog": 275}
    found = {breed.name: CLASS_OF_SYNSET[breed.synset] for breed in find_breeds(list(known))}
    assert found == known


@pytest.mark.parametrize(("variant", "side"), [("lite0", 224), ("lite2", 260)])
def test_the_judge_says_what_the_published_network_says(variant: Variant, side: int) -> None:
    pictures = noise(2)
    inputs = F.interpolate(pictures.float(), size=side, mode="bicubic", antialias=True)
    with torch.no_grad():
        logits = load_efficientnet(variant)((inputs.clamp(0, 255) - 127) / 128)
    judged = Judge(variant)(pictures)
    assert judged.features.shape == (2, 1280)
    assert not judged.features.requires_grad
    assert torch.allclose(judged.probabilities, logits.softmax(dim=1), atol=1e-4)


def test_a_judgement_does_not_depend_on_company(judge: Judge) -> None:
    pictures = noise(9)
    together, alone = judge(pictures), judge(pictures[8:])
    assert torch.allclose(together[slice(8, 9)].features, alone.features, atol=1e-4)


def test_no_pictures_give_no_judgements(judge: Judge) -> None:
    judged = judge(noise(0))
    assert judged.features.shape == (0, 1280)
    assert judged.probabilities.shape == (0, 1000)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the photos in ../shared/data")
@pytest.mark.parametrize(("breed", "least"), [("beagle", 0.95), ("Siberian husky", 0.9)])
def test_real_dogs_are_dogs_of_their_breed(judge: Judge, breed: str, least: float) -> None:
    found = find_breeds([breed])[0]
    files = sorted((REAL / "stanford_dogs" / "Images" / found.folder).glob("*.jpg"))[:40]
    photos = []
    for file in files:
        photo = Image.open(file).convert("RGB")
        edge = min(photo.size)
        left, top = (photo.width - edge) // 2, (photo.height - edge) // 2
        photos.append(photo.resize((128, 128), box=(left, top, left + edge, top + edge)))
    judged = judge(pixels(photos))
    assert class_rate(judged.probabilities, DOG_CLASSES) >= 0.95
    assert top_k_rate(judged.probabilities, CLASS_OF_SYNSET[found.synset], 5) >= least


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the photos in ../shared/data")
def test_real_cats_are_no_dogs(judge: Judge) -> None:
    files = sorted((REAL / "cats").glob("*.jpg"))[:20]
    photos = [Image.open(file).convert("RGB").resize((128, 128)) for file in files]
    assert class_rate(judge(pixels(photos)).probabilities, DOG_CLASSES) <= 0.1
