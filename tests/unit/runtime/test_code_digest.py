"""The library digest in the rules' params: it changes when, and only when, code that a stage uses changes."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cardiocohort.runtime import code_digest
from cardiocohort.runtime.artifacts import read_store

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPTS = REPOSITORY / "workflow/scripts"

LIBRARY = {
    "a.py": "from cardiocohort import shared\nfrom cardiocohort.sub.one import f\n",
    "b.py": "def main():\n    from cardiocohort.sub import two\n",
    "c.py": "import json\nimport cardiocohort.plugins\n",
    "cardiocohort/__init__.py": '"""The library."""\n',
    "cardiocohort/shared.py": '"""Shared."""\nimport numpy.linalg\nX = 1\n',
    "cardiocohort/sub/__init__.py": "",
    "cardiocohort/sub/one.py": "from ..deep import g\n\ndef f():\n    return g()\n",
    "cardiocohort/sub/two.py": "from . import helper\n",
    "cardiocohort/sub/helper.py": "Y = 1\n",
    "cardiocohort/deep.py": "def g():\n    return 1\n",
    "cardiocohort/plugins/__init__.py": "import pkgutil\n",
    "cardiocohort/plugins/vtk.py": "V = 1\n",
    "cardiocohort/unused.py": "U = 1\n",
}


@pytest.fixture
def store(tmp_path_factory, monkeypatch):
    """A store of the test's own, in place of that beside the module."""
    path = tmp_path_factory.mktemp("store") / "__pycache__/code_digest.json"
    monkeypatch.setattr(code_digest, "STORE", path)
    return path


@pytest.fixture
def library(tmp_path, store):
    for name, text in LIBRARY.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def digests(library):
    """As a new process finds them."""
    for cached in (code_digest._parsed, code_digest._files_of, code_digest._stored):
        cached.cache_clear()
    return {name: code_digest.library_digest(library / f"{name}.py") for name in "abc"}


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("__init__.py", "abc"),
        ("shared.py", "a"),
        ("sub/__init__.py", "ab"),
        ("sub/one.py", "a"),
        ("deep.py", "a"),
        ("sub/two.py", "b"),
        ("sub/helper.py", "b"),
        ("plugins/vtk.py", "c"),
        ("unused.py", ""),
    ],
)
def test_an_edit_changes_the_digests_of_its_stages_only(library, module, stages):
    before = digests(library)
    path = library / "cardiocohort" / module
    path.write_text(path.read_text() + "NEW = 2\n")
    after = digests(library)
    assert "".join(name for name in "abc" if after[name] != before[name]) == stages


def test_comments_docstrings_and_layout_do_not_count(library):
    before = digests(library)
    path = library / "cardiocohort/deep.py"
    path.write_text('"""What it is for."""\n\n# why\ndef g():\n    """Documented."""\n\n    return (1)\n')
    assert digests(library) == before
    path.write_text("def g():\n    return 1.0\n")
    assert digests(library)["a"] != before["a"]


def test_a_new_plugin_counts(library):
    before = digests(library)
    (library / "cardiocohort/plugins/new.py").write_text("W = 1\n")
    after = digests(library)
    assert [name for name in "abc" if after[name] != before[name]] == ["c"]


def test_the_digest_does_not_depend_on_where_the_clone_is(library, tmp_path_factory):
    other = tmp_path_factory.mktemp("cardiocohort")
    for name, text in LIBRARY.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(text)
    assert digests(other) == digests(library)


def test_a_text_is_parsed_once_and_an_edited_one_again(library, monkeypatch):
    before, parsed = digests(library), []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text, filename: parsed.append(filename) or parse(text, filename))
    assert digests(library) == before
    assert not parsed
    path, times = library / "cardiocohort/deep.py", (library / "cardiocohort/deep.py").stat()
    path.write_text(path.read_text().replace("1", "2"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert [name for name, digest in digests(library).items() if digest != before[name]] == ["a"]
    assert parsed == [str(path)]


def test_what_another_reader_stored_does_not_count(library, store, monkeypatch):
    before, stored = digests(library), store.read_text()
    monkeypatch.setattr(code_digest, "_READER", b"of another version")
    assert digests(library) == before
    assert len(read_store(store)) == 2 * len(LIBRARY) - 2, "one module is unused, one has the text of another"
    assert store.read_text() != stored


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-9], lambda text: "", lambda text: text.replace("g", "h")]
)
def test_a_store_that_is_not_whole_is_made_again(library, store, damage):
    before, whole = digests(library), store.read_text()
    store.write_text(damage(whole))
    assert digests(library) == before
    assert store.read_text() == whole


def test_digests_need_no_store(library, store):
    store.parent.write_text("a file where the folder would be")
    assert digests(library) == digests(library)
    assert store.parent.is_file()


def test_a_store_that_has_grown_is_emptied(library, store, monkeypatch):
    monkeypatch.setattr(code_digest, "MOST_STORED", 3)
    before = digests(library)
    assert len(read_store(store)) < len(LIBRARY)
    assert digests(library) == before


def test_foreign_imports(library):
    assert code_digest.third_party(library / "a.py") == {"numpy"}
    assert code_digest.third_party(library / "c.py") == {"json", "pkgutil"}


def rules_with_scripts():
    text = "\n".join(path.read_text() for path in sorted((REPOSITORY / "workflow/rules").glob("*.smk")))
    for rule in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]:
        if re.search(r"^    output:", rule, flags=re.MULTILINE):  # targets such as `prior` make nothing
            yield rule.split(":")[0], rule


@pytest.mark.parametrize(("rule", "text"), list(rules_with_scripts()))
def test_every_rule_carries_the_digest_of_its_own_script(rule, text):
    script = re.search(r'script:\s+"\.\./scripts/(\w+\.py)"', text)
    assert script, f"{rule} has no script"
    assert f'library("{script[1]}")' in text


def closure(script):
    return {
        path.relative_to(SCRIPTS / "cardiocohort").as_posix()
        for path in code_digest.closure(SCRIPTS / script)
    }


def test_stages_do_not_reach_into_each_other():
    assert not any(name.startswith(("meshing", "report")) for name in closure("generate_anatomies.py"))
    assert not any(name.startswith(("prior", "generation")) for name in closure("check_topology.py"))
    assert "topology/gate.py" in closure("check_topology.py")
    assert "topology/gate.py" in closure("generate_anatomies.py")


def test_the_closure_holds_all_that_an_import_loads():
    """The parsed closure against what the interpreter itself loads."""
    script = SCRIPTS / "check_topology.py"
    found = subprocess.run(
        [sys.executable, "-c", "import sys, check_topology; print(*sys.modules)"],
        cwd=SCRIPTS, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    loaded = {name for name in found if name.split(".")[0] == "cardiocohort"}
    parsed = {
        ".".join(path.relative_to(SCRIPTS).with_suffix("").parts).removesuffix(".__init__")
        for path in code_digest.closure(script)
    }
    assert loaded <= parsed


def test_the_snakefile_imports_nothing_slow():
    source = (REPOSITORY / "workflow/rules/common.smk").read_text()
    imports = "\n".join(line for line in source.splitlines() if line.startswith("from cardiocohort"))
    told = subprocess.run(
        [sys.executable, "-c", f"import sys\n{imports}\nprint(*sys.modules)"],
        cwd=SCRIPTS, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert "cardiocohort.cohort.table" in told
    assert not {"torch", "pyvista", "vtk", "scipy", "skimage", "sklearn", "nibabel", "matplotlib"} & set(told)
