"""A model as a repository of the Hugging Face Hub: prepared as a folder, then uploaded."""

import json
from pathlib import Path

from huggingface_hub import HfApi

from models.catalog import Catalog, CatalogEntry
from models.formats import Format
from models.formats.exporting import export_model
from models.manifest import ADAPTER_FILE

CARD_FILE = "README.md"


def prepare_repository(name: str, form: Format, folder: Path, catalog: Catalog) -> None:
    """Write into `folder`, which must not exist, what a repository of the model `name` holds.

    A pipeline lies at its top; a single file is called as diffusers expects it (LoRA), or after the
    model. Beside it a model card in Markdown. Raises what export_model raises.
    """
    entry = catalog.get(name)
    if form == "diffusers":
        export_model(name, form, folder, catalog)
    else:
        file = ADAPTER_FILE if form == "lora" else f"{name}.safetensors"
        export_model(name, form, folder / file, catalog)
    card = entry.folder / CARD_FILE
    text = card.read_text(encoding="utf-8") if card.is_file() else model_card(entry, form)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    preview = entry.folder / "preview.png"
    if preview.is_file():
        (folder / "preview.png").write_bytes(preview.read_bytes())


def model_card(entry: CatalogEntry, form: Format) -> str:
    """The card of `entry` with the front matter that the Hub reads."""
    manifest = entry.manifest
    tags = ["text-to-image", "stable-diffusion", "dreambooth", *manifest.tags]
    if form in ("lora", "kohya"):
        tags.append("lora")
    matter: dict[str, object] = {"pipeline_tag": "text-to-image", "tags": tags}
    if form in ("diffusers", "lora"):
        matter["library_name"] = "diffusers"
    if manifest.instance_prompts:
        matter["instance_prompt"] = manifest.instance_prompts[0]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in matter.items()]
    prompts = "".join(f"- `{prompt}`\n" for prompt in manifest.instance_prompts)
    about = f"Base: `{manifest.base}`.\n\n" if manifest.base else ""
    return (
        "---\n" + "\n".join(lines) + "\n---\n\n"
        f"# {manifest.name}\n\n{manifest.description}\n\n{about}"
        f"Native size: {manifest.resolution} pixels.\n\n"
        + (f"What to write:\n\n{prompts}" if prompts else "")
    )


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload `folder` to the Hub's `repository` (made where it is not there); its address.

    The account is the one that `hf auth login` or HF_TOKEN set.
    """
    api = HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    return str(api.upload_folder(folder_path=folder, repo_id=repository))
