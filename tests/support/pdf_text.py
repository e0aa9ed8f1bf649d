"""The text of a PDF that Chromium printed, for tests of printed pages.

It reads what Chromium writes and no more: deflated streams, one numbered object after the other, text as
hexadecimal glyph numbers, and a map from glyphs to Unicode in each font.
"""

import re
import zlib

OBJECT = re.compile(rb"(?:^|\n)(\d+) 0 obj\n(.*?)\nendobj", re.DOTALL)
FONTS = re.compile(rb"/Font <<(.*?)>>", re.DOTALL)
NAMED = re.compile(rb"/(\w+) (\d+) 0 R")
SHOWN = re.compile(rb"/(\w+) [\d.]+ Tf|<([0-9A-Fa-f]+)> Tj")


def text_of(pdf: bytes) -> str:
    """The text of all pages in the order in which it is drawn; spaces between words may be missing."""
    objects = {int(number): content for number, content in OBJECT.findall(pdf)}
    pages = [content for content in objects.values() if b"/Type /Page\n" in content]
    maps, found = {}, []
    for page in pages:
        fonts = {}
        for name, number in NAMED.findall(FONTS.search(page)[1]) if FONTS.search(page) else ():
            key = int(number)
            if key not in maps:
                unicode = re.search(rb"/ToUnicode (\d+) 0 R", objects[key])
                maps[key] = _characters(_stream(objects[int(unicode[1])])) if unicode else {}
            fonts[name] = maps[key]
        font = {}
        contents = re.search(rb"/Contents (\d+) 0 R", page)
        for name, glyphs in SHOWN.findall(_stream(objects[int(contents[1])])):
            if name:
                font = fonts.get(name, {})
            else:
                text = glyphs.decode()
                found.append("".join(font.get(text[i : i + 4].upper(), "?") for i in range(0, len(text), 4)))
    return " ".join(found)


def _stream(content: bytes) -> bytes:
    return zlib.decompressobj().decompress(content.partition(b"stream\n")[2])


def _characters(table: bytes) -> dict[str, str]:
    """Characters by glyph number (four hexadecimal digits)."""
    found = {}
    for kind, part in re.findall(rb"beginbf(char|range)\n(.*?)endbf", table, re.DOTALL):
        for row in part.splitlines():
            numbers = re.findall(rb"<([0-9A-Fa-f]+)>", row)
            first, last = int(numbers[0], 16), int(numbers[1 if kind == b"range" else 0], 16)
            text = bytes.fromhex(numbers[-1].decode()).decode("utf-16-be")
            for glyph in range(first, last + 1):
                found[f"{glyph:04X}"] = text[:-1] + chr(ord(text[-1]) + glyph - first)
    return found
