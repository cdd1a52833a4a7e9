"""Reads weights in prompts: (word:1.3), (word), [word]."""

import re

MAX_WEIGHT = 10.0
ROUND, SQUARE = 1.1, 1 / 1.1
"""What one pair of () or [] multiplies its words by, as in AUTOMATIC1111's web UI."""

TOKEN = re.compile(r"\\[()\[\]\\]|[()\[\]]|:\s*([+-]?[\d.]+)\s*\)|[^\\()\[\]:]+|[:\\]")


def parse_weights(prompt: str) -> list[tuple[str, float]]:
    r"""Parts of `prompt` and their weights, in the syntax of AUTOMATIC1111's web UI.

    `(word)` is 1.1, `[word]` 1/1.1, `(word:1.3)` 1.3, nested ones multiply; `\(` is a bracket that
    is written. A bracket that is never closed counts to the end of the prompt.
    Raises ValueError for a weight that is no number from 0 to 10.
    """
    parts: list[tuple[str, float]] = []
    opened: list[tuple[str, int]] = []

    def multiply(start: int, factor: float) -> None:
        parts[start:] = [(text, weight * factor) for text, weight in parts[start:]]

    for match in TOKEN.finditer(prompt):
        text, number = match[0], match[1]
        if text.startswith("\\") and len(text) == 2:
            parts.append((text[1], 1.0))
        elif text in ("(", "["):
            opened.append((text, len(parts)))
        elif number is not None and opened and opened[-1][0] == "(":
            multiply(opened.pop()[1], _weight(number))
        elif text == ")" and opened and opened[-1][0] == "(":
            multiply(opened.pop()[1], ROUND)
        elif text == "]" and opened and opened[-1][0] == "[":
            multiply(opened.pop()[1], SQUARE)
        else:
            parts.append((text, 1.0))
    for bracket, start in reversed(opened):
        multiply(start, ROUND if bracket == "(" else SQUARE)
    merged: list[tuple[str, float]] = []
    for text, weight in parts:
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + text, weight)
        else:
            merged.append((text, weight))
    return merged


def _weight(number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= MAX_WEIGHT:
        raise ValueError(f"the weight {number!r} is no number from 0 to {MAX_WEIGHT:g}")
    return weight
