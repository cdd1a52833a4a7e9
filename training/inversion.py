"""Textual inversion (Gal et al. 2022, arXiv 2208.01618): a name becomes a token, which learns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AddedToken, CLIPTextModel, CLIPTokenizer

FILE = "learned_embeds.safetensors"
PARAMETER = "new_tokens"


def add_tokens(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, names: Sequence[str], class_word: str
) -> list[int]:
    """Make each of `names` one token, where it is none yet; their ids.

    The embedding of a new token is the mean of the class word's.
    """
    weight = text_encoder.get_input_embeddings().weight
    ids = tokenizer(class_word, add_special_tokens=False).input_ids
    start = weight[ids].detach().mean(dim=0)
    new = [name for name in names if len(tokenizer.tokenize(name)) > 1]
    tokenizer.add_tokens([AddedToken(name, single_word=True) for name in new])
    if len(tokenizer) > len(weight):
        text_encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    weight = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        for name in new:
            weight[tokenizer.convert_tokens_to_ids(name)] = start
    return [tokenizer(name, add_special_tokens=False).input_ids[0] for name in names]


class NewTokens:
    """The trained embeddings of a few tokens of a text encoder that is frozen otherwise."""

    def __init__(
        self, text_encoder: CLIPTextModel, names: Sequence[str], token_ids: Sequence[int]
    ) -> None:
        """Let `text_encoder` read the tokens' embeddings from a parameter `[k, D]` of its own."""
        self._text_encoder = text_encoder
        self._names, self._ids = list(names), torch.tensor(token_ids)
        self._table = text_encoder.get_input_embeddings()
        weight: Tensor = self._table.weight
        self._before = weight.detach()[self._ids].float()
        text_encoder.register_parameter(PARAMETER, nn.Parameter(self._before.clone()))
        self._place = torch.full((len(weight),), -1, device=weight.device)
        self._place[self._ids] = torch.arange(len(self._ids), device=weight.device)
        self._hook = self._table.register_forward_hook(self._replace)

    def _replace(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        place = self._place[inputs[0]]
        rows = self._rows()[place.clamp(min=0)].to(output.dtype)
        return torch.where((place >= 0).unsqueeze(-1), rows, output)

    def change(self) -> tuple[float, float]:
        """Squared norms of what training added, and of what it was added to."""
        added = self._rows().detach().cpu() - self._before.cpu()
        return added.square().sum().item(), self._before.square().sum().item()

    def save(self, folder: Path) -> None:
        """Write the embeddings as `load_textual_inversion` of diffusers reads them."""
        rows = self._rows().detach().cpu()
        save_file({n: row.clone() for n, row in zip(self._names, rows, strict=True)}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Put back what `save` wrote."""
        stored = load_file(folder / FILE)
        with torch.no_grad():
            self._rows().copy_(torch.stack([stored[name] for name in self._names]))

    def settle(self) -> None:
        """Write the embeddings into the text encoder's own table for good."""
        with torch.no_grad():
            self._table.weight[self._ids] = self._rows().to(self._table.weight.dtype)
        self._hook.remove()
        delattr(self._text_encoder, PARAMETER)

    def _rows(self) -> Tensor:
        rows: Tensor = getattr(self._text_encoder, PARAMETER)
        return rows
