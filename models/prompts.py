"""Prompts as embeddings: weights like (word:1.3), prompts of any length, a bounded cache."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from models.lora import Adapter, RowAdapters
from models.prompt_weights import parse_weights


class PromptEncoder:
    """The text side of one base; belongs to the engine's thread.

    Keeps the embeddings of the last `limit` prompts.
    """

    def __init__(
        self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, limit: int = 256
    ) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._limit = limit
        self._cache: OrderedDict[tuple[Adapter | None, str, int], Tensor] = OrderedDict()
        self.adapters = RowAdapters(text_encoder)

    def encode(self, prompts: Sequence[str], adapter: Adapter | None) -> Tensor:
        """Embeddings `[len(prompts), chunks * window, D]` in the text encoder's dtype.

        A prompt longer than the window is cut into chunks that are encoded apart and joined; the
        shorter prompts are filled up with empty chunks, for one batch has one length.
        """
        chunked = [self._chunks(prompt) for prompt in prompts]
        length = max(len(chunks) for chunks in chunked)
        layers = adapter.text_encoder if adapter else {}
        owner = adapter if layers else None
        embeddings = []
        for prompt, chunks in zip(prompts, chunked, strict=True):
            key = (owner, prompt, length)
            if key not in self._cache:
                filled = [*chunks, *self._chunks("") * (length - len(chunks))]
                with self.adapters.use([layers or None] * length):
                    self._cache[key] = self._encode_chunks(filled)
                if len(self._cache) > self._limit:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(key)
            embeddings.append(self._cache[key])
        return torch.stack(embeddings)

    def length(self, *prompts: str) -> int:
        """Chunks of the longest of `prompts`."""
        return max(len(self._chunks(prompt)) for prompt in prompts)

    def words(self, prompt: str) -> list[tuple[str, list[int]]]:
        """The words of `prompt` and, for each, its positions in what `encode` gives.

        A word ends with a token that ends in `</w>`; punctuation and weights are left out.
        """
        tokenizer = self._tokenizer
        window = tokenizer.model_max_length
        numbers = [token for text, _ in parse_weights(prompt) for token in self._tokens(text)]
        found: list[tuple[str, list[int]]] = []
        begun: list[int] = []
        for index, number in enumerate(numbers):
            begun.append(index)
            if tokenizer.convert_ids_to_tokens(number).endswith("</w>"):
                word = tokenizer.decode([numbers[i] for i in begun]).strip()
                chunks = [(i // (window - 2), i % (window - 2)) for i in begun]
                if any(letter.isalnum() for letter in word):
                    found.append((word, [chunk * window + 1 + place for chunk, place in chunks]))
                begun = []
        return found

    def forget(self, adapter: Adapter) -> None:
        """Drop what was encoded with `adapter`, which leaves memory."""
        for key in [key for key in self._cache if key[0] is adapter]:
            del self._cache[key]

    def _chunks(self, prompt: str) -> list[list[tuple[int, float]]]:
        """Windows of (token id, weight), each with its start, end and padding."""
        tokenizer = self._tokenizer
        body = [
            (token, weight)
            for text, weight in parse_weights(prompt)
            for token in self._tokens(text)
        ]
        room = tokenizer.model_max_length - 2
        chunks = []
        for start in range(0, max(len(body), 1), room):
            part = body[start : start + room]
            chunks.append(
                [
                    (tokenizer.bos_token_id, 1.0),
                    *part,
                    (tokenizer.eos_token_id, 1.0),
                    *[(tokenizer.pad_token_id, 1.0)] * (room - len(part)),
                ]
            )
        return chunks

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _encode_chunks(self, chunks: list[list[tuple[int, float]]]) -> Tensor:
        """`[len(chunks) * window, D]`: a weight w takes a token to e0 + w (e - e0).

        e0 is the empty prompt's embedding at its place, so weights below 1 fade a word out and
        nothing depends on the embeddings' mean, which is near 0 behind a layer norm.
        """
        device = self._text_encoder.device
        ids = torch.tensor([[token for token, _ in chunk] for chunk in chunks], device=device)
        weights = torch.tensor([[weight for _, weight in chunk] for chunk in chunks], device=device)
        embeddings: Tensor = self._text_encoder(ids).last_hidden_state
        if (weights != 1).any():
            empty = torch.tensor([[token for token, _ in self._chunks("")[0]]], device=device)
            with self.adapters.use(()):
                nothing = self._text_encoder(empty).last_hidden_state
            embeddings = torch.lerp(nothing, embeddings, weights[..., None].to(embeddings.dtype))
        return embeddings.flatten(0, 1)
