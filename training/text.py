"""The text side of the embedded base: a small tokenizer and a small CLIP text encoder."""

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from tokenizers import pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class TextConfig:
    """The `[text]` table of a recipe."""

    vocabulary: int = 1500
    window: int = 32
    """Tokens of one prompt, start and end included; longer prompts are cut."""
    width: int = 256
    layers: int = 3
    heads: int = 4


def train_tokenizer(texts: Iterable[str], config: TextConfig) -> CLIPTokenizer:
    """A byte-level BPE tokenizer of CLIP's kind: every text tokenises, the given ones shortly."""
    backend = CLIPTokenizer().backend_tokenizer
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # CLIP's vocabulary holds every byte twice: inside a word and at its end. Given as special
    # tokens, the latter get their ids here and not in the trainer's order, which is random.
    ends = [f"{letter}</w>" for letter in letters]
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=[START, END, *ends],
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    learned = backend.get_vocab(with_added_tokens=False)
    symbols = sorted(learned, key=lambda symbol: learned[symbol])
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    merges = [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=config.window)


def build_text_encoder(tokenizer: CLIPTokenizer, config: TextConfig) -> CLIPTextModel:
    """An untrained CLIP text encoder for `tokenizer`."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            projection_dim=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.window,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


@torch.no_grad()
def spread_unseen_tokens(text_encoder: CLIPTextModel, seen: Tensor, seed: int) -> None:
    """Give every token outside the ids `seen` a random embedding as large as the trained ones.

    Meant to let DreamBooth on a frozen text encoder tell new names apart; not shown to help.
    """
    weight = text_encoder.get_input_embeddings().weight
    unseen = torch.ones(len(weight), dtype=torch.bool)
    unseen[seen] = False
    trained = weight[~unseen]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(int(unseen.sum()), weight.shape[1], generator=generator)
    weight[unseen] = trained.mean(dim=0) + trained.std(dim=0) * noise


def without_accents(text: str) -> str:
    """`pastor alemán` as people type it in a hurry: `pastor aleman`."""
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
