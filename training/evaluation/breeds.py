"""How well a model draws the breeds that it was taught, beside what real photos score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data.classes import judged_classes
from models.admission import largest_upscale
from models.manifest import Manifest
from training.config import ConfigError
from training.evaluation.card import RATE_LABELS, main_rate
from training.evaluation.cases import Case, other_cases, taught_cases
from training.evaluation.copies import find_copies
from training.evaluation.drawing import reconstruct
from training.evaluation.judge import Judgement
from training.evaluation.metrics import (
    class_drift,
    copying,
    diversity,
    kid,
    nearest_mean,
    precision_recall_density_coverage,
    prior_preservation,
)
from training.evaluation.photos import RealPhotos, needed_dataset, read_photos
from training.evaluation.setting import Bench, Findings, judge_drawn, rates

RATES = ("class_rate", "top1", "top5", "own_kind")
FEWEST = 7
"""Pictures of which precision and recall by five neighbours mean anything."""
KID_ROUNDING = 1e-9
"""What single-precision sums leave of a distance that is nothing; real photos' own is near 1e-3."""


@dataclass(frozen=True)
class References:
    """The real photos of the breeds, or other kinds, to judge, by what they are for."""

    photos: RealPhotos
    test: list[Tensor]
    """Rows of each breed's test photos."""
    train: list[Tensor]
    reference: Tensor
    """Rows of as many test photos of every breed: what distances are measured to."""
    floor: Tensor
    """Rows of as many train photos as the model draws: what real pictures score."""


@dataclass(frozen=True)
class Drawn:
    """Pictures `[P, S, 3, H, W]` and the judge's word on each, prompt by prompt."""

    pictures: Tensor
    judgement: Judgement

    def of(self, number: int) -> Judgement:
        """The judge's word on the pictures of one prompt."""
        seeds = self.pictures.shape[1]
        return self.judgement[slice(number * seeds, (number + 1) * seeds)]


def evaluate_breeds(bench: Bench) -> Findings:
    """Draw every breed in English and Spanish, and what the base drew; judge it beside photos."""
    manifest, base = bench.manifest, bench.base
    refs = read_references(bench, manifest.breeds)
    shown = refs.photos.shown
    own = taught_cases(manifest.breeds, refs.photos)
    others = other_cases(sorted(set(base.breeds) - set(manifest.breeds))) if base else []
    drawn = draw(bench, own, others)
    class_prompt = bench.class_prompt(shown.word)
    class_drawn = draw_class(bench, class_prompt)
    real = bench.judge(refs.photos.pictures, progress="judging photos")
    rebuilt_rows = torch.cat([*refs.test, refs.floor])
    rebuilt_pictures = reconstruct(manifest, bench.catalog, refs.photos.pictures[rebuilt_rows])
    rebuilt = bench.judge(rebuilt_pictures, progress="judging reconstructions")

    table = breed_table(own, drawn, refs, real, rebuilt)
    count = len(own) * bench.config.seeds
    features = {kind: found.judgement.features[:count] for kind, found in drawn.items()}
    features["reconstructed"] = rebuilt.features[-len(refs.floor) :]
    features["real"] = real.features[refs.floor]
    reference = real.features[refs.reference]
    pictures = drawn["drawn"].pictures[: len(own)].flatten(0, 1)
    copies, neighbours = copy_record(bench, refs, pictures, features["drawn"], real.features)
    sets = {
        kind: mean_rates([row[kind] for row in table]) | distances(found, reference)
        for kind, found in features.items()
    }
    record = {
        "real_photos": {
            "dataset_fingerprint": refs.photos.fingerprint,
            "crop": refs.photos.best_crop,
            "class": shown.word,
            "official_lists": all(refs.photos.synsets),
            "test_photos": sum(len(rows) for rows in refs.test),
            "reference_photos": len(refs.reference),
            "seen_in_training": saw_test_photos(manifest, refs.photos),
        },
        "sets": sets,
        "beside_ceilings": beside_ceilings(sets),
        "breeds": table,
        "other_breeds": other_breeds(others, drawn, len(own)),
        "class": class_record(class_prompt, class_drawn, reference),
        "copying": copies,
    }
    rate = main_rate(sets)
    samples = {
        case.name: (pictures, f"{RATE_LABELS[rate]}: {row['drawn'][rate]:.0%}")
        for case, pictures, row in zip(own, drawn["drawn"].pictures, table, strict=False)
    }
    return Findings(record, samples, neighbours)


def read_references(bench: Bench, breeds: Sequence[str]) -> References:
    """The photos of the dataset, one crop of each; ConfigError where a breed has too few."""
    photos = read_photos(needed_dataset(bench.dataset), bench.manifest.resolution, breeds)
    rows: dict[str, list[Tensor]] = {"test": [], "train": []}
    for split, found in rows.items():
        for breed in breeds:
            found.append(photos.rows(split, photos.best_crop, {breed}))
            if len(found[-1]) < 2:
                raise ConfigError(
                    f"dataset: it has {len(found[-1])} photos of {breed} on its {split} list, "
                    "2 are needed"
                )
    size = min(len(of_breed) for of_breed in rows["test"])
    counts = {"seeds": bench.config.seeds * len(breeds), "dataset": size * len(breeds)}
    for key, count in counts.items():
        if count < FEWEST:
            raise ConfigError(f"{key}: gives {count} pictures to compare, {FEWEST} are needed")
    return References(
        photos=photos,
        test=rows["test"],
        train=rows["train"],
        reference=torch.cat([spread(of_breed, size) for of_breed in rows["test"]]),
        floor=torch.cat([spread(of_breed, bench.config.seeds) for of_breed in rows["train"]]),
    )


def spread(rows: Tensor, count: int) -> Tensor:
    """`count` of `rows` at even distances; all of them where there are fewer."""
    if len(rows) <= count:
        return rows
    return rows[torch.arange(count) * len(rows) // count]


def draw(bench: Bench, own: list[Case], others: list[Case]) -> dict[str, Drawn]:
    """The model's pictures (`drawn`, `spanish`), and its base's (`before`) where there is one.

    `drawn` and `before` show the model's own breeds first, then its base's other breeds. A base
    with an upscaler draws once more by it (`upscaled`), from the same latents as `drawn`.
    """
    name, everything = bench.manifest.name, [case.prompt for case in own + others]
    orders = {
        "drawn": (name, everything),
        "spanish": (name, [case.spanish or case.prompt for case in own]),
    }
    if bench.base is not None:
        orders["before"] = (bench.base.name, everything)
    found = {kind: _draw(bench, *order, kind) for kind, order in orders.items()}
    upscale = largest_upscale(bench.catalog.get(name), bench.catalog)
    if bench.base is None and upscale > 1:
        found["upscaled"] = _draw(bench, *orders["drawn"], "upscaled", upscale)
    return found


def draw_class(bench: Bench, prompt: str) -> dict[str, Drawn]:
    """Pictures of the class `prompt` by the model (`drawn`) and its base (`before`)."""
    names = {"drawn": bench.manifest.name}
    if bench.base is not None:
        names["before"] = bench.base.name
    return {kind: _draw(bench, name, [prompt], f"class, {kind}") for kind, name in names.items()}


def _draw(bench: Bench, model: str, prompts: Sequence[str], label: str, upscale: int = 1) -> Drawn:
    pictures = bench.drawer.draw(model, prompts, label, upscale=upscale)
    return Drawn(pictures, judge_drawn(bench, pictures, label))


def breed_table(
    own: list[Case],
    drawn: Mapping[str, Drawn],
    refs: References,
    real: Judgement,
    rebuilt: Judgement,
) -> list[dict[str, Any]]:
    """One row a breed: rates of every kind of picture, and diversity.

    `own_kind` is the share nearest to the mean of the train photos of their own breed.
    `rebuilt` holds the reconstructions of `refs.test`, breed by breed, first.
    """
    table = []
    start = 0
    photos = [real.features[rows] for rows in refs.train]
    for number, case in enumerate(own):
        test = refs.test[number]
        row: dict[str, Any] = {"breed": case.name, "spanish_prompt": case.spanish}
        judged = {kind: found.of(number) for kind, found in drawn.items()}
        judged["reconstructed"] = rebuilt[slice(start, start + len(test))]
        judged["real"] = real[test]
        for kind, judgement in judged.items():
            near = nearest_mean(judgement.features, photos) == number
            row[kind] = rates(judgement, case) | {"own_kind": float(near.float().mean())}
        row["real_photos"] = len(test)
        seeds = drawn["drawn"].pictures.shape[1]
        row["diversity"] = diversity(drawn["drawn"].of(number).features)
        row["diversity_real"] = diversity(real.features[spread(refs.train[number], seeds)])
        table.append(row)
        start += len(test)
    return table


def mean_rates(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over breeds, each counting alike, of the rates that all of them have."""
    told = [key for key in RATES if all(key in row for row in rows)]
    return {key: sum(row[key] for row in rows) / len(rows) for key in told}


def distances(features: Tensor, reference: Tensor) -> dict[str, Any]:
    """KID-EffLite and the manifold metrics of features `[N, D]` against the reference `[M, D]`."""
    distance = kid(features, reference)
    return {
        "kid": {"mean": distance.mean, "std": distance.std},
        **precision_recall_density_coverage(features, reference),
    }


def beside_ceilings(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """What the rates and distances come to, each beside the one that bounds it.

    KID is unbiased and real photos' own is as often below 0 as above: the floor is that value or,
    where it is larger, its standard deviation over the subsets. Of so few photos that every subset
    is all of them, nothing but rounding is left of it, and no ratio is given.
    """
    rate = main_rate(sets)
    floor = max(sets["real"]["kid"]["mean"], sets["real"]["kid"]["std"])
    return {
        "kid_over_floor": sets["drawn"]["kid"]["mean"] / floor if floor > KID_ROUNDING else None,
        f"{rate}_kept_by_autoencoder": sets["reconstructed"][rate] / max(sets["real"][rate], 1e-9),
        f"spanish_minus_english_{rate}": sets["spanish"][rate] - sets["drawn"][rate],
    }


def other_breeds(
    others: list[Case], drawn: Mapping[str, Drawn], first: int
) -> list[dict[str, Any]]:
    """What training did to the base's breeds that it was not about: rates after and before."""
    return [
        {"breed": case.name}
        | {kind: rates(drawn[kind].of(number), case) for kind in ("drawn", "before")}
        for number, case in enumerate(others, start=first)
    ]


def class_record(prompt: str, drawn: Mapping[str, Drawn], reference: Tensor) -> dict[str, Any]:
    """What training did to the class prompt, against the features `[M, D]` of the photos taught."""
    record: dict[str, Any] = {"prompt": prompt}
    case = Case(prompt, prompt, classes=judged_classes(prompt))
    for kind, found in drawn.items():
        features = found.judgement.features
        record[kind] = {
            **rates(found.judgement, case),
            "diversity": diversity(features),
            "pres": prior_preservation(features, reference),
        }
    if "before" in drawn:
        both = (drawn[kind].judgement.features for kind in ("before", "drawn"))
        record["drift"] = class_drift(*both)
    return record


def copy_record(
    bench: Bench, refs: References, pictures: Tensor, features: Tensor, real_features: Tensor
) -> tuple[dict[str, Any], Tensor]:
    """Copies among the model's own pictures `[G, 3, H, W]`; real photos' rate as the control."""
    photos = refs.photos
    trained = photos.rows(split=None if saw_test_photos(bench.manifest, photos) else "train")
    record, neighbours = find_copies(
        bench.judge, pictures, features, photos, real_features, trained
    )
    test, train = torch.cat(refs.test), torch.cat(refs.train)
    control = copying(real_features[test][None], real_features[train])
    return record | {"real_test_photos_rate": control.rate}, neighbours


def saw_test_photos(manifest: Manifest, photos: RealPhotos) -> bool:
    """Whether a run that says how many pictures it read must have read some of the test list."""
    used = manifest.training.get("photos", 0)
    count = sum(used.values()) if isinstance(used, dict) else used
    return bool(count > len(photos.rows(split="train")))
