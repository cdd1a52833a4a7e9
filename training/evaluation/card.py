"""The model card: what a manifest and an evaluation say, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from data.breeds import BREEDS
from models.manifest import Manifest

WEAK = 0.5
"""Rate under which the card names a breed among what the model cannot draw."""

LABELS = {
    "drawn": "drawn, English prompts",
    "upscaled": "drawn, by the upscaler",
    "spanish": "drawn, Spanish prompts",
    "class": "drawn, class prompt",
    "before": "base, before training",
    "drawn_before": "base, English prompts",
    "spanish_before": "base, Spanish prompts",
    "class_before": "base, class prompt",
    "reconstructed": "real photos through the autoencoder",
    "real": "real photos",
}
"""What the kinds of pictures of `evaluation.json` are called, in the order a reader wants them."""

RATE_LABELS = {"top1": "top 1", "top5": "top 5", "own_kind": "own kind"}
RATE_MEANINGS = {
    "top5": "breed among the judge's first five classes",
    "own_kind": "nearer to the mean photo of its own kind than to another's",
}


def main_rate(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """What tells best whether the breeds are met: the judge's own classes, where all have one."""
    return "top5" if "top5" in sets["real"] else "own_kind"


def model_card(manifest: Manifest, record: Mapping[str, Any]) -> str:
    """The card of one model; `record` is its evaluation.json."""
    sections = [
        f"---\n{_front_matter(manifest).to_yaml()}\n---",
        f"# {manifest.name}\n\n{manifest.description}".strip(),
        _what_it_draws(manifest),
        _evaluation(record),
        _copies(record),
        _limits(manifest, record),
        _training(manifest),
        _licence(manifest),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(manifest: Manifest) -> ModelCardData:
    command = manifest.training.get("command", "dreambooth")
    kinds = {"base": [], "checkpoint": [command], "adapter": [command, "lora"]}
    return ModelCardData(
        base_model=manifest.base,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        language=["en", "es"],
        tags=["stable-diffusion", *kinds[manifest.kind]],
    )


def _what_it_draws(manifest: Manifest) -> str:
    kinds = {
        "base": "a whole pipeline, trained from scratch",
        "checkpoint": f"a whole pipeline, fine-tuned from `{manifest.base}`",
        "adapter": f"a LoRA on `{manifest.base}`",
    }
    lines = [f"What it is: {kinds[manifest.kind]}; pictures of {manifest.resolution} px."]
    if manifest.breeds:
        lines.append(f"Breeds: {', '.join(sorted(manifest.breeds, key=str.casefold))}.")
    elif manifest.instance_prompts:
        lines.append(f"Write: {', '.join(f'`{p}`' for p in manifest.instance_prompts)}.")
    if "upscaler" in manifest.training:
        lines.append(
            "Its folder `upscaler` holds a decoder for twice the side: `upscale` in a request; in "
            "plain diffusers, the pipeline's `vae`."
        )
    lines.append(
        f"Defaults: {manifest.default_steps} steps of {manifest.default_scheduler}, guidance "
        f"{manifest.default_guidance_scale:g}."
    )
    return "\n".join(lines) + "\n\n![Samples by fixed seeds, nothing picked](samples.jpg)"


def _evaluation(record: Mapping[str, Any]) -> str:
    settings = record["settings"]
    text = [
        "## Evaluation",
        f"`python -m training evaluate {record['model']}`: {settings['seeds']} pictures of each "
        f"prompt (seeds 0 to {settings['seeds'] - 1}) at the defaults, judged by "
        f"{settings['judge']} (ImageNet weights) among 1,000 classes.",
    ]
    if "one_picture" in record:
        text.append(_seconds(record))
    if "breeds" in record:
        text += _breed_tables(record)
    elif "sets" in record:
        text += _animal_tables(record)
    if "prompts" in record:
        rows = [
            (row["prompt"], _share(row.get("class_rate")), _share(row.get("top5")))
            for row in record["prompts"]
        ]
        text.append(_table(("prompt", "class", "breed in top 5"), rows))
    return "\n\n".join(text)


def _seconds(record: Mapping[str, Any]) -> str:
    found, settings = record["one_picture"], record["settings"]
    times = ", ".join(f"{value:.2f} s by `{model}`" for model, value in found["seconds"].items())
    threads = "one thread" if found["threads"] == 1 else f"{found['threads']} threads"
    return (
        f"One picture alone takes {times}: medians, drawn in turns, each at its own defaults "
        f"({settings['device']}, {threads}, {settings['dtype']})."
    )


def _breed_tables(record: Mapping[str, Any]) -> list[str]:
    real, class_ = record["real_photos"], record["class"]
    rate = main_rate(record["sets"])
    told = {"class_rate": real["class"]} | RATE_LABELS
    told = {key: label for key, label in told.items() if key in record["sets"]["real"]}
    columns = ("", *told.values(), "KID x 1000", "precision", "recall", "coverage")
    rows = [
        (
            LABELS[kind],
            *(_share(found[key]) for key in told),
            f"{1000 * found['kid']['mean']:.1f} ± {1000 * found['kid']['std']:.1f}",
            *(f"{found[key]:.2f}" for key in ("precision", "recall", "coverage")),
        )
        for kind, found in in_order(record["sets"])
    ]
    kinds = [kind for kind in LABELS if kind in record["breeds"][0]]
    breeds = sorted(record["breeds"], key=lambda row: row["breed"].casefold())
    by_breed = [
        (row["breed"], *(_share(row[kind][rate]) for kind in kinds), f"{row['diversity']:.2f}")
        for row in breeds
    ]
    seen = (
        "The model was trained on these test photos too: the distances flatter it."
        if real["seen_in_training"]
        else "The model was not trained on these test photos."
    )
    whose = "the official test list of Stanford Dogs" if real["official_lists"] else "the test list"
    about = (
        f"Real photos: {real['test_photos']} of {whose}, {real['crop']} crops. {seen} "
        "Distances (KID-EffLite and the manifold metrics, in the judge's features) are to "
        f"{real['reference_photos']} of them, as many for every breed; "
        "in the last two rows, photos of the train list stand in for the model. Rates are means "
        "over breeds; own kind: the share nearer to the mean of their own breed's train photos "
        "than to another's."
    )
    beside = record["beside_ceilings"]
    if beside["kid_over_floor"] is not None:
        about += (
            f" The model's KID is {beside['kid_over_floor']:.1f} times the floor (real photos' "
            "own, or its deviation where that is larger)."
        )
    about += (
        " The autoencoder keeps "
        f"{_share(beside[f'{rate}_kept_by_autoencoder'])} of the photos' {RATE_LABELS[rate]} rate; "
        f"Spanish is {100 * beside[f'spanish_minus_english_{rate}']:+.1f} points from English."
    )
    text = [
        _table(columns, rows),
        about,
        "![Rates by breed](breeds.png)",
        f"By breed: {RATE_MEANINGS[rate]}, and diversity (DIV-EffLite):",
        _table(("breed", *(LABELS[kind] for kind in kinds), "diversity"), by_breed),
    ]
    drift = f"; drift {class_['drift']:.2f}" if "drift" in class_ else ""
    parts = [
        f"{label}: known as such {_share(class_[kind].get('class_rate'))}, PRES-EffLite "
        f"{class_[kind]['pres']:.2f}, DIV-EffLite {class_[kind]['diversity']:.2f}"
        for kind, label in (("drawn", "now"), ("before", "before training"))
        if kind in class_
    ]
    text.append(f"The class, `{class_['prompt']}`: {'; '.join(parts)}{drift}.")
    if all("top5" in row["drawn"] for row in record["other_breeds"]) and record["other_breeds"]:
        now, before = (mean_top5(record["other_breeds"], kind) for kind in ("drawn", "before"))
        text.append(
            f"The base's {len(record['other_breeds'])} other breeds: top 5 {_share(now)} with "
            f"this model, {_share(before)} without."
        )
    return text


SEEN = {
    True: "which it was trained on",
    False: "not seen in training",
    None: "which it may have been trained on",
}


def _animal_tables(record: Mapping[str, Any]) -> list[str]:
    columns = ("", "similarity", f"a {record['animal']['class']}", "diversity")
    rows = [
        (
            LABELS[kind],
            f"{found['similarity']:.3f}",
            _share(found.get("class_rate")),
            f"{found['diversity']:.2f}" if "diversity" in found else "",
        )
        for kind, found in in_order(record["sets"])
    ]
    real, class_ = record["real_photos"], record["class"]
    seen = SEEN[real["seen_in_training"]]
    text = [
        _table(columns, rows),
        f"Similarity is the mean cosine, in the judge's features, with {real['photos']} photos of "
        f"{record['animal']['name']}, {seen}; for photos, with the other photos.",
    ]
    if "drift" in class_:
        text.append(
            f"The class, `{class_['prompt']}`: PRES-EffLite {class_['drawn']['pres']:.3f}, before "
            f"training {class_['before']['pres']:.3f}; drift {class_['drift']:.2f}."
        )
    if "dreambooth_protocol" in record:
        found = record["dreambooth_protocol"]
        names = {"clip_i": "CLIP-I", "clip_t": "CLIP-T", "dino": "DINO", "dino_real": "DINO, real"}
        values = [f"{label} {found[key]:.3f}" for key, label in names.items() if key in found]
        text.append(
            f"DreamBooth's protocol ({found['prompts']} prompts, {found['pictures_per_prompt']} "
            f"pictures of each): {', '.join(values)}."
        )
    return text


def _copies(record: Mapping[str, Any]) -> str:
    if "copying" not in record:
        return ""
    found = record["copying"]
    rates = ", ".join(
        f"{_share(found[space]['rate'])} by {label} (lowest ratio "
        f"{found[space]['lowest_ratio']:.2f})"
        for space, label in (("features", "the judge's features"), ("pixels", "pixels at 32 px"))
    )
    control = ""
    if "real_test_photos_rate" in found:
        control = (
            f" Real test photos against train photos: {_share(found['real_test_photos_rate'])}."
        )
    return (
        "## Copies\n\n"
        f"Pictures that count as copies of one of {found['training_photos']} training photos, "
        f"mirrored or not: {rates}. Definition: {found['definition']}.{control} The sheet "
        "`neighbours.jpg`, nearest photos beside pictures, holds real photos: `evaluate` writes "
        "it, and it is not published with the model."
    )


def _limits(manifest: Manifest, record: Mapping[str, Any]) -> str:
    lines = []
    if "breeds" in record:
        rate = main_rate(record["sets"])
        weak = [
            f"{row['breed']} ({_share(row['drawn'][rate])})"
            for row in sorted(record["breeds"], key=lambda row: row["drawn"][rate])
            if row["drawn"][rate] < WEAK
        ]
        if weak:
            lines.append(f"The judge does not know them again in most pictures: {', '.join(weak)}.")
        seeds = record["settings"]["seeds"]
        error = 0.5 / seeds**0.5
        lines.append(
            f"{seeds} pictures a breed: a breed's rate has a standard error of up to {error:.0%}."
        )
    lines.append("The judge sees ImageNet's classes, not whether a picture is beautiful or whole.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _training(manifest: Manifest) -> str:
    training = manifest.training
    if not training:
        return ""
    config = {k: v for k, v in training.get("config", {}).items() if not isinstance(v, dict | list)}
    shown = ("base", "method", "rank", "steps", "batch_size", "learning_rate", "resolution", "seed")
    settings = ", ".join(f"{key} {config[key]}" for key in shown if config.get(key) is not None)
    lines = [f"`python -m training {training.get('command', '')}`: {settings}."]
    if "data_fingerprint" in training:
        lines.append(
            f"Data: `{training['data_fingerprint'][:16]}…`, pictures: {_counts(training)}."
        )
    lines.append("The whole configuration and the libraries' versions stand in `manifest.json`.")
    return "## Training\n\n" + " ".join(lines)


def _counts(training: Mapping[str, Any]) -> str:
    photos = training.get("photos", "?")
    if isinstance(photos, dict):
        return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in photos.items())
    return str(photos)


def _licence(manifest: Manifest) -> str:
    if not {breed.name for breed in BREEDS} & set(manifest.breeds):
        return ""
    return (
        "## Licence and use\n\nTrained on Stanford Dogs (Khosla et al., FGVC workshop, CVPR 2011), "
        "which draws on ImageNet and is for research use: so is this model. Meant for learning and "
        "for trying this project, not for pictures that anyone relies on."
    )


def in_order(sets: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The kinds of pictures as a reader wants them: the model first, ceilings last."""
    return [(kind, sets[kind]) for kind in LABELS if kind in sets]


def mean_top5(rows: Sequence[Mapping[str, Any]], kind: str) -> float:
    """Mean over breeds."""
    return float(sum(row[kind]["top5"] for row in rows) / len(rows))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
