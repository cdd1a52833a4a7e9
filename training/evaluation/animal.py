"""How well a DreamBooth model draws its one animal, beside what real photos of it score."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.config import ConfigError
from training.evaluation.card import LABELS
from training.evaluation.cases import (
    LIVE_SUBJECT_PROMPTS,
    PICTURES_PER_PROMPT,
    Animal,
    animal_of,
)
from training.evaluation.copies import find_copies
from training.evaluation.drawing import reconstruct
from training.evaluation.judge import Judgement
from training.evaluation.metrics import (
    class_drift,
    diversity,
    prior_preservation,
    similarity_across,
    subject_similarity,
)
from training.evaluation.photos import RealPhotos, crop_photos, needed_dataset, read_photos
from training.evaluation.setting import Bench, Findings, judge_drawn, rates


def evaluate_animal(bench: Bench) -> Findings:
    """Draw the animal and its class, after training and before; judge it beside real photos.

    Similarity is to the photos of `config.photos`, which training should not have seen, or to those
    of the dataset where there are none.
    """
    animal = animal_of(bench.manifest)
    training, held_out = read_both(bench, animal)
    real = held_out or training
    assert real is not None
    if len(real.photo.unique()) < 2:
        raise ConfigError(f"photos: there is one photo of {animal.name}, 2 are needed")
    protocol = paper_protocol(bench, animal, real)  # first: its models may not load

    drawn = draw(bench, animal)
    real_judged = bench.judge(real.pictures, progress="judging photos")
    judged = {kind: judgement for kind, (_, judgement) in drawn.items()}
    sets = judged_sets(bench, animal, judged, real, real_judged)
    record: dict[str, Any] = {
        "animal": {"name": animal.name, "class": animal.class_word},
        "real_photos": {
            "photos": len(real.photo.unique()),
            "seen_in_training": saw_photos(training, held_out),
        },
        "sets": sets,
        "class": class_record(bench.class_prompt(animal.class_word), judged, real_judged.features),
        **protocol,
    }
    neighbours = None
    if training is not None and len(training.photo.unique()) >= 2:
        known = bench.judge(training.pictures, progress="judging training photos")
        pictures, judgement = drawn["drawn"]
        record["copying"], neighbours = find_copies(
            bench.judge, pictures, judgement.features, training, known.features, training.rows()
        )
    samples = {
        LABELS[kind]: (pictures, f"similarity {sets[kind]['similarity']:.2f}")
        for kind, (pictures, _) in drawn.items()
    }
    return Findings(record, samples, neighbours)


def draw(bench: Bench, animal: Animal) -> dict[str, tuple[Tensor, Judgement]]:
    """Pictures `[S, 3, H, W]` and the judge's word on them.

    Of the animal in English (`drawn`) and Spanish (`spanish`) and of the class (`class`); the
    same by the base, where there is one, as `drawn_before` and so on.
    """
    prompts = {"drawn": animal.case.prompt, "spanish": animal.case.spanish or animal.case.prompt}
    prompts["class"] = bench.class_prompt(animal.class_word)
    models = {"": bench.manifest.name} | ({"_before": bench.base.name} if bench.base else {})
    found = {}
    for suffix, model in models.items():
        pictures = bench.drawer.draw(model, list(prompts.values()), f"{model}'s pictures")
        for kind, of_kind in zip(prompts, pictures, strict=True):
            judgement = judge_drawn(bench, of_kind[None], kind + suffix)
            found[kind + suffix] = (of_kind, judgement)
    return found


def judged_sets(
    bench: Bench,
    animal: Animal,
    judged: Mapping[str, Judgement],
    real: RealPhotos,
    real_judged: Judgement,
) -> dict[str, dict[str, float]]:
    """Similarity, class rate and diversity of all that was drawn, and the photos' own."""
    rebuilt_pictures = reconstruct(bench.manifest, bench.catalog, real.pictures)
    rebuilt = bench.judge(rebuilt_pictures, progress="judging reconstructions")
    sets = {
        kind: {
            "similarity": subject_similarity(found.features, real_judged.features),
            **rates(found, animal.case),
            "diversity": diversity(found.features),
        }
        for kind, found in judged.items()
    }
    for kind, found in (("reconstructed", rebuilt), ("real", real_judged)):
        sets[kind] = {
            "similarity": similarity_across(found.features, real_judged.features, real.photo),
            **rates(found, animal.case),
        }
    return sets


def read_both(bench: Bench, animal: Animal) -> tuple[RealPhotos | None, RealPhotos | None]:
    """The photos that the model was trained on, and others of the animal; one may be missing."""
    config, resolution = bench.config, bench.manifest.resolution
    held_out = None
    if config.photos is not None:
        held_out = crop_photos(config.photos, resolution, animal.name, animal.class_word)
        if bench.dataset is None:
            return None, held_out
    return read_photos(needed_dataset(bench.dataset), resolution), held_out


def saw_photos(training: RealPhotos | None, held_out: RealPhotos | None) -> bool | None:
    """Whether the model was trained on the photos that it is judged beside; None: nobody knows,
    as the photos of its training are not at hand."""
    if held_out is None:
        return True
    return None if training is None else False


def class_record(
    prompt: str, judged: Mapping[str, Judgement], real_features: Tensor
) -> dict[str, Any]:
    """What training did to the class prompt: PRES-EffLite and drift."""
    record: dict[str, Any] = {"prompt": prompt}
    for kind, key in (("class", "drawn"), ("class_before", "before")):
        if kind in judged:
            features = judged[kind].features
            record[key] = {
                "pres": prior_preservation(features, real_features),
                "diversity": diversity(features),
            }
    if "class_before" in judged:
        record["drift"] = class_drift(judged["class_before"].features, judged["class"].features)
    return record


def paper_protocol(bench: Bench, animal: Animal, real: RealPhotos) -> dict[str, Any]:
    """CLIP-I, CLIP-T and DINO by DreamBooth's protocol: 25 prompts, four pictures of each.

    Ruiz et al. 2022 (arXiv 2208.12242), section 4.1. The text of CLIP-T names the class without
    the identifier, which CLIP does not know.
    """
    config = bench.config
    if config.clip is None and config.dino is None:
        return {}
    # Only here: CLIP's processor warns at import where torchvision is missing.
    from training.evaluation.embeddings import ClipEmbeddings, DinoEmbeddings, clip_t

    clip = ClipEmbeddings(config.clip) if config.clip else None
    dino = DinoEmbeddings(config.dino) if config.dino else None
    subject = f"{animal.name} {animal.class_word}"
    drawn = bench.drawer.draw(
        bench.manifest.name,
        [prompt.format(subject) for prompt in LIVE_SUBJECT_PROMPTS],
        "the paper's prompts",
        seeds=PICTURES_PER_PROMPT,
    )
    flat = drawn.flatten(0, 1)
    found: dict[str, Any] = {"prompts": len(drawn), "pictures_per_prompt": drawn.shape[1]}
    if clip is not None:
        embedded = clip.pictures(flat)
        texts = clip.texts([prompt.format(animal.class_word) for prompt in LIVE_SUBJECT_PROMPTS])
        found["clip_i"] = subject_similarity(embedded, clip.pictures(real.pictures))
        found["clip_t"] = clip_t(embedded, texts.repeat_interleave(drawn.shape[1], dim=0))
    if dino is not None:
        known = dino.pictures(real.pictures)
        found["dino"] = subject_similarity(dino.pictures(flat), known)
        found["dino_real"] = similarity_across(known, known, real.photo)
    return {"dreambooth_protocol": found}
