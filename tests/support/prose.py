"""The linter of the documents' language and links: README.md, CONTRIBUTING.md, docs/, config/ and resources/.

    python tests/support/prose.py            # every fault: file, line, text, what to do
    python tests/support/prose.py --figures  # mean and longest sentence of every page

A page is read as Markdown. Paragraphs and list items hold sentences; code blocks, headings and comments do
not. Table cells are fragments: idioms count there, lengths do not. A code span is one word. Generated tables
(docs/config.md, and those between `<!-- table: name -->` and `<!-- end -->`) are not checked, since their
text has another source: `texts_of` finds the idioms in that. The card of a bundle is written with the bundle.
"""

import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parents[2]
LONGEST_SENTENCE, LARGEST_MEAN, LONGEST_LINE = 35, 18, 140  # words, words per sentence, characters
CARD = "CARD.md"
SHORTEST_SENTENCE = 3  # words; "**Walls.**" is a label

COUNTED = (
    r"(?:rows?|columns?|files?|folders?|lines?|pages?|pictures?|tables?|seconds?|minutes?|hours?|hearts?|samples?"
    r"|subjects?|attempts?|seeds?|s|h|ms|mL|MB|GB|kB)"
)
UNIT = (
    r"(?:arm|attempt|batch|beat|case|cell|column|day|element|file|GPU|heart|hour|job|level|line|minute|node|page"
    r"|patient|region|row|rule|run|sample|second|segment|square metre|stage|step|structure|subject|table"
    r"|tetrahedron|ventricle|year)"
)
# What is not to be written -> what to write. Correct uses of these words pass (see the tests).
IDIOMS = {
    rf"\b(?:one|two|three|[\d.,]+|a) (?:\w+ )?{COUNTED} an? {UNIT}\b": 'write "per" for a rate',
    rf"\b(?:once|twice|one|values|blocks|latents) an? {UNIT}\b": 'write "per" for a rate',
    rf"^hearts an? {UNIT}\b": 'write "per" for a rate',
    r"\b(?:told|tells?)\b": 'write "says", "shows" or "gets"',
    r"\bask(?:s|ed|ing)? (?:for|of)\b|\b(?:is|are|was|were|be|been) asked\b": 'write "requests" or "needs"',
    r"\bkin\b": 'write "sibling" or "related"',
    r"\bmend(?:s|ed|ing)?\b": 'write "repair"',
    r"\b(?:bears?|bore|borne)\b": 'write "has", "carries" or "tolerates"',
    r"\bmind\b": 'write "consider"',
    r"\bheed(?:s|ed|ing)?\b": 'write "follow"',
    r"\bbut for\b": 'write "except for"',
    r"\ball but\b": 'write "all except"',
    r"\bfor want of\b": 'say what is missing: "because there is no ..."',
    r"\bsome (?:\d+|ten|twenty|thirty|forty|fifty|hundred|dozen)\b": 'write "about"',
    r"\b(?:a|half a) dozen\b": "write a number",
    r"\b(?:go|goes|went|gone|going) on\b": 'write "continue"',
    r"\bfor ever\b": 'write "without end"',
    r"\bstands? in for\b": 'write "replaces"',
    r"\b(?:nothing|none) but\b": 'write "only"',
    r"\bthose of which\b|\bof those of\b|\bth(?:at|ose) of th(?:at|ose)\b": "name the thing again",
    r"\b\w+n't\b": "write the words in full",
}
PATTERNS = {re.compile(pattern, re.IGNORECASE): advice for pattern, advice in IDIOMS.items()}
# A sentence ends before a blank and a capital letter, digit, sign or code, not after an abbreviation.
SENTENCE_END = re.compile(
    r"(?<!\bal)(?<!\bvs)(?<!\bcf)(?<!\be\.g)(?<!\bi\.e)(?<!\bFig)(?<!\bProc)(?<!\b[A-Z])"
    r"[.!?][)\"”*]*(?=[ \n]+[\"“(*]*[A-Z0-9√±σ`])"
)
GENERATED = re.compile(r"<!-- table: .*? -->.*?<!-- end -->", re.DOTALL)
# within code nothing ends a sentence or a word
HELD, FREED = str.maketrans(" \n.!?", "\x00\x01\x02\x03\x04"), str.maketrans("\x00\x01\x02\x03\x04", "  .!?")


@dataclass(frozen=True)
class Sentence:
    text: str
    line: int  # of its first word, from 1
    words: int
    cell: bool  # a cell of a table


def sentences(markdown: str) -> Iterator[Sentence]:
    """Sentences of the paragraphs and list items of a page, and the cells of its tables."""
    for opening, token in itertools.pairwise(_tokens(GENERATED.sub(_blank_lines, markdown))):
        if token.type == "inline" and not opening.type.startswith("heading"):
            cell = opening.type in ("th_open", "td_open")
            yield from _cut("".join(map(_words_of, token.children)), token.map[0] + 1, cell)


def faults(markdown: str, generated: bool = False) -> list[tuple[int, str, str]]:
    """Line, text and remedy of every fault of a page; line 0 is the page as a whole."""
    found = []
    said = [] if generated else list(sentences(markdown))
    for sentence in said:
        if sentence.words > LONGEST_SENTENCE and not sentence.cell:
            remedy = (
                f"{sentence.words} words, at most {LONGEST_SENTENCE}: make two sentences, a list or a table"
            )
            found.append((sentence.line, sentence.text, remedy))
        for remedy in idioms(re.sub("`[^`]*`", "``", sentence.text)):
            found.append((sentence.line, sentence.text, remedy))
    mean, _ = figures(markdown)
    if mean > LARGEST_MEAN and not generated:
        found.append(
            (0, f"{mean:.1f} words per sentence", f"at most {LARGEST_MEAN}: split the longest sentences")
        )
    for number, line in enumerate(markdown.splitlines(), 1):
        if len(line) > LONGEST_LINE and not line.startswith(("|", "    ", "![")) and not generated:
            found.append((number, line, f"{len(line)} characters, at most {LONGEST_LINE}: break the line"))
    return sorted(found)


def broken_links(page: Path) -> list[tuple[int, str, str]]:
    """Line, address and remedy of links and pictures of a page that lead to no file or no heading."""
    found = []
    for token in _tokens(page.read_text()):
        for child in token.children or ():
            address = child.attrGet("href") or child.attrGet("src") or ""
            name, _, heading = address.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not address or "://" in address:
                continue
            if not target.exists():
                found.append((token.map[0] + 1, address, f"there is no {name}"))
            elif heading and heading not in _anchors(target):
                found.append((token.map[0] + 1, address, f"{target.name} has no heading {heading!r}"))
    return found


def figures(markdown: str) -> tuple[float, int]:
    """Mean and largest number of words in the sentences of a page, table cells left out."""
    words = [s.words for s in sentences(markdown) if not s.cell and s.words >= SHORTEST_SENTENCE]
    return (sum(words) / len(words), max(words)) if words else (0.0, 0)


def pages() -> list[Path]:
    return [
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md")),
        *sorted(REPOSITORY.glob("docs/**/*.md")),
        *(page for page in sorted(REPOSITORY.glob("resources/**/*.md")) if page.name != CARD),
    ]


def sources() -> list[Path]:
    """What other texts that people read are made of: the schemas' descriptions, the templates of pages."""
    return [*sorted(REPOSITORY.glob("workflow/schemas/*.json")), *sorted(REPOSITORY.glob("workflow/**/*.j2"))]


def texts_of(source: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every description of a JSON schema, or of every line of another file."""
    for line, text in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        if source.suffix != ".json":
            yield line, re.sub(r"`[^`]*`|<code>.*?</code>|{[{%#].*?[}%#]}", "``", text)
        elif found := re.fullmatch(r'\s*"description": (".*"),?', text):
            yield line, re.sub(r"`[^`]*`", "``", json.loads(found[1]))


def idioms(text: str) -> list[str]:
    """The idioms in a text, each with its remedy."""
    return [
        f"{match[0]!r}: {advice}" for pattern, advice in PATTERNS.items() for match in pattern.finditer(text)
    ]


def is_generated(markdown: str) -> bool:
    return "\nGenerated by `" in markdown


def _tokens(markdown: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(markdown)


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub and GitLab give to the headings of a page."""
    tokens = itertools.pairwise(_tokens(page.read_text()))
    headings = [token.content.lower() for opening, token in tokens if opening.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def _blank_lines(match: re.Match) -> str:
    return "\n" * match[0].count("\n")


def _words_of(token: Token) -> str:
    if token.type == "code_inline":
        return f"`{token.content}`".translate(HELD)
    return "\n" if token.type in ("softbreak", "hardbreak") else token.content * (token.type == "text")


def _cut(text: str, line: int, cell: bool) -> Iterator[Sentence]:
    start = 0
    for end in [*(match.end() for match in SENTENCE_END.finditer(text)), len(text)]:
        part = text[start:end]
        words = sum(bool(re.search(r"\w", word)) for word in part.split())
        if words:
            first = line + text[: end - len(part.lstrip())].count("\n")
            yield Sentence(" ".join(part.split()).translate(FREED), first, words, cell)
        start = end


def main(arguments: list[str]) -> int:
    if arguments == ["--figures"]:
        for page in pages():
            mean, longest = figures(page.read_text())
            print(f"{page.relative_to(REPOSITORY)}\t{mean:.1f}\t{longest}")
        return 0
    count = 0
    for page in pages():
        markdown = page.read_text()
        for line, text, remedy in faults(markdown, is_generated(markdown)) + broken_links(page):
            print(f"{page.relative_to(REPOSITORY)}:{line}: {remedy}\n    {text}")
            count += 1
    for source in sources():
        for line, text in texts_of(source):
            for remedy in idioms(text):
                print(f"{source.relative_to(REPOSITORY)}:{line}: {remedy}\n    {text.strip()}")
                count += 1
    files = f"{len(pages())} pages, {len(sources())} schemas and templates"
    print(f"{count} faults of language in {files} (CONTRIBUTING.md, Language)")
    return bool(count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
