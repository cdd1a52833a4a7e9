"""Draws a contact sheet: one row of small pictures for each breed, with its name."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

THUMB = 96
GAP = 6
LABEL_WIDTH = 190
PER_ROW = 10
BACKGROUND = (250, 249, 247)
INK = (38, 38, 42)
FAINT = (140, 138, 134)


def contact_sheet(
    rows: Mapping[str, Sequence[Image.Image]], notes: Mapping[str, str]
) -> Image.Image:
    """A sheet with the first pictures of each row.

    Args:
        rows: pictures by label.
        notes: a second, fainter line under a label, such as a count.
    """
    columns = max((min(len(pictures), PER_ROW) for pictures in rows.values()), default=1)
    width = LABEL_WIDTH + columns * (THUMB + GAP) + GAP
    sheet = Image.new("RGB", (width, max(1, len(rows)) * (THUMB + GAP) + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(16), ImageFont.load_default(12)
    for row, (label, pictures) in enumerate(rows.items()):
        top = GAP + row * (THUMB + GAP)
        words = _wrap(label, large)
        y = top + THUMB / 2 - 9 * len(words) - 8
        for line in words:
            draw.text((2 * GAP, y), line, INK, large)
            y += 19
        draw.text((2 * GAP, y + 1), notes.get(label, ""), FAINT, small)
        for column, picture in enumerate(pictures[:PER_ROW]):
            thumb = picture.convert("RGB").resize((THUMB, THUMB), Image.Resampling.LANCZOS)
            sheet.paste(thumb, (LABEL_WIDTH + column * (THUMB + GAP), top))
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Lines of words, each no wider than the label column; at most three."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= LABEL_WIDTH - 4 * GAP:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines[:3]
