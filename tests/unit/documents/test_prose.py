"""The linter of the documents' language finds seeded faults, where they are, and spares correct uses."""

import pytest

import prose

LONG = "One two three four five six seven eight nine ten " * 4  # 40 words


def remedies(markdown: str) -> list[tuple[int, str]]:
    return [(line, remedy) for line, _, remedy in prose.faults(markdown)]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The table has one row a subject.", "one row a subject"),
        ("A heart costs 20 s a step.", "20 s a step"),
        ("It looks at a job twice a minute.", "twice a minute"),
        ("Each has 1,000 files\na batch.", "1,000 files a batch"),
        ("The denoiser is told the moments.", "told"),
        ("What the user asked for is drawn.", "asked for"),
        ("The tests mend nothing.", "mend"),
        ("Twice the step is borne.", "borne"),
        ("All but the long tests run.", "All but"),
        ("It holds, but for the atria.", "but for"),
        ("The sizes of those of which the gate accepts.", "of those of"),
        ("It doesn't converge.", "doesn't"),
        ("The others go on.", "go on"),
        ("It costs some 7 s.", "some 7"),
        ("There are two planes, one a ventricle.", "one a ventricle"),
        ("Processes share a step, one a GPU.", "one a GPU"),
        ("They are values a square metre of surface.", "values a square metre"),
        ("There is one attempt a heart.", "one attempt a heart"),
        ("The rules ask for it.", "ask for"),
    ],
)
def test_an_idiom_is_found_in_a_sentence_a_list_and_a_table(text, word):
    for markdown, line in ((f"# Page\n\n{text}\n", 3), (f"- {text}\n", 1)):
        ((found, remedy),) = remedies(markdown)
        assert found == line
        assert remedy.startswith(repr(word))
    cell = " ".join(text.split())
    ((found, remedy),) = remedies(f"| a |\n|---|\n| {cell} |\n")
    assert (found, remedy.startswith(repr(word))) == (3, True)


@pytest.mark.parametrize(
    "text",
    [
        "The table has one row per subject and gives each subject a row.",
        "A batch holds subjects of one arm; a file a user wrote is read.",
        "It reads bearing surfaces; skin and kinetics are not in it.",
        "All views show it. But the next is better.",
        "Code such as `told` or `one row a subject` is no prose.",
        "Amend the table, and recommend a value.",
        "The user can ask a question, and was going home.",
    ],
)
def test_correct_uses_pass(text):
    assert remedies(text) == []


def test_a_long_sentence_is_found_at_its_first_word():
    markdown = f"# Page\n\nShort it is.\nAnother one.\n{LONG}.\nThe end is near.\n"
    ((line, remedy),) = [fault for fault in remedies(markdown) if "words, at most" in fault[1]]
    assert line == 5
    assert remedy.startswith("40 words, at most 35")


@pytest.mark.parametrize(
    "between",
    [". One", "? One", "! One", ".\nOne", ". `code` one", ".** One", ". 12 one", '." One', ".) (One"],
)
def test_sentences_end_at_their_marks(between):
    parts = list(prose.sentences(f"Start **now{between} more follows."))
    assert len(parts) == 2


@pytest.mark.parametrize(
    "text",
    [
        "By Kadry et al. The end comes later",
        "See Fig. 2 and Proc. R Soc, by J. Smith",
        "It is 0.5 mm of `a b. C d` in name.of.key",
        "About 3 e.g. 4",
    ],
)
def test_sentences_do_not_end_elsewhere(text):
    assert len(list(prose.sentences(text))) == 1


def test_code_headings_and_comments_are_no_sentences_and_a_code_span_is_one_word():
    markdown = (
        f"# {LONG}\n\n    told {LONG}\n\n```\ntold\n```\n\n<!-- told -->\n\nRun `make all of it now` here.\n"
    )
    assert [(s.text, s.words, s.line) for s in prose.sentences(markdown)] == [
        ("Run `make all of it now` here.", 3, 11)
    ]


def test_generated_tables_are_left_to_their_source_and_lines_keep_their_numbers():
    markdown = "<!-- table: x -->\n| told |\n|---|\n| told |\n<!-- end -->\n\nIt was told.\n"
    assert [line for line, _ in remedies(markdown)] == [7]
    assert prose.faults(markdown, generated=True) == []


def test_the_mean_counts_sentences_and_not_cells_or_labels():
    markdown = (
        f"**Walls.** One two three four.\n\n- One two three four five six.\n\n| a |\n|---|\n| {LONG} |\n"
    )
    assert prose.figures(markdown) == (5.0, 6)
    twenty = "One two three four five six seven eight nine ten " * 2 + ".\n"
    assert remedies(twenty) == [(0, "at most 18: split the longest sentences")]


def test_a_long_line_is_a_fault_except_in_tables_code_and_pictures():
    line = "x" * 141
    assert [
        n for n, _ in remedies(f"{line}\n\n    {line}\n\n| a |\n|---|\n| {line} |\n\n![{line}](x.png)\n")
    ] == [1]


def test_links_to_files_and_headings_are_followed(tmp_path):
    (tmp_path / "b.md").write_text("# The RV wall, in `mm`\n")
    page = tmp_path / "a.md"
    page.write_text(
        "# Here it is\n\n[1](b.md#the-rv-wall-in-mm) [2](#here-it-is) [3](https://x.org/y)\n\n"
        "[4](c.md)\n\n| [5](b.md#rv) |\n|---|\n\n![6](x.png) [7](#there)\n"
    )
    assert prose.broken_links(page) == [
        (5, "c.md", "there is no c.md"),
        (7, "b.md#rv", "b.md has no heading 'rv'"),
        (10, "x.png", "there is no x.png"),
        (10, "#there", "a.md has no heading 'there'"),
    ]


def test_the_documents_are_read():
    names = {str(page.relative_to(prose.REPOSITORY)) for page in prose.pages()}
    assert names >= {"README.md", "CONTRIBUTING.md", "docs/generation.md", "docs/validation/meshing.md"}
    assert names >= {"config/README.md", "resources/templates/PROVENANCE.md", "resources/reference/README.md"}
    generated = {page.name for page in prose.pages() if prose.is_generated(page.read_text())}
    assert generated == {"config.md"}


def test_descriptions_of_the_schema_and_templates_of_pages_hold_no_idiom():
    names = {source.name for source in prose.sources()}
    assert names >= {"config.schema.json", "cohort.html.j2", "evaluation.html.j2"}
    texts = [(s.name, line, text) for s in prose.sources() for line, text in prose.texts_of(s)]
    assert sum(name == "config.schema.json" for name, _, _ in texts) > 200
    assert [(name, line, found) for name, line, text in texts if (found := prose.idioms(text))] == []


def test_an_idiom_in_a_description_or_a_template_is_found_and_code_is_not_read(tmp_path):
    schema, template = tmp_path / "a.json", tmp_path / "a.j2"
    lines = ["{", ' "description": "Hearts a step.",', ' "title": "told",', ' "description": "`told`"', "}"]
    schema.write_text("\n".join(lines))
    template.write_text("<p>told</p>\n{{ told }} <code>told</code>\n")
    for source, line in ((schema, 2), (template, 1)):
        assert [n for n, text in prose.texts_of(source) if prose.idioms(text)] == [line]
