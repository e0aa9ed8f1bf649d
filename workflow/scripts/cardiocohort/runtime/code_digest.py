"""Which library modules a script imports, and a digest of what they do. Owned by no stage.

Snakemake reruns a rule when its script changes, not when a module that the script imports does; with
this digest among its `params`, a change of the library reruns the stages that use it and no others.
Light on purpose (nothing is imported, only parsed): the Snakefile calls it, in each run and each cluster job.
Parsing takes seconds, so what a module's text says is remembered between runs.
"""

import ast
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

from .artifacts import read_store, write_store

PACKAGE = "cardiocohort"
# Beside the bytecode of this module, and like it of one version of Python: others have other syntax trees.
STORE = Path(cache_from_source(__file__)).with_suffix(".json")
MOST_STORED = 3000  # texts; a developer's old ones are dropped then
_READER = Path(__file__).read_bytes()  # what it finds in a text counts as long as it is the same itself


def library_digest(script: str | Path) -> str:
    """Digest of the library modules that `script` imports, directly or not, wherever in their code.

    Comments, docstrings and layout do not count. The library is the package beside the script.
    """
    script = Path(script)
    total = hashlib.sha256()
    for module in closure(script):
        digest = _parsed(module, script.parent).digest
        total.update(f"{module.relative_to(script.parent).as_posix()} {digest}\n".encode())
    _store_new()
    return total.hexdigest()[:16]


def closure(script: str | Path) -> list[Path]:
    """Files of the library modules that `script` needs, sorted; packages count with their __init__.

    A package that looks for its own modules (pkgutil) counts with all of them.
    """
    script = Path(script)
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        new = _parsed(waiting.pop(), script.parent).files - found
        found |= new
        waiting += new
    return sorted(found)


def third_party(script: str | Path) -> set[str]:
    """Top-level names of all that `script` and its library modules import from elsewhere."""
    modules = [Path(script), *closure(script)]
    return set().union(*(_parsed(module, Path(script).parent).packages for module in modules)) - {PACKAGE}


@cache
def _files_of(name: str, root: Path) -> set[Path]:
    """The module's file and the __init__ of every package above it; nothing for other names."""
    path = root.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    packages = [parent / "__init__.py" for parent in path.parents[: name.count(".")]]
    return {file, *(p for p in packages if p.is_file())} if file.is_file() else set()


@dataclass(frozen=True)
class _Module:
    """Library files that a module imports, top-level names of all its imports, and a digest of its code."""

    files: frozenset[Path]
    packages: frozenset[str]
    digest: str


@cache
def _parsed(module: Path, root: Path) -> _Module:
    """A module below `root`, once per process: thirty rules have most of their modules in common."""
    text = module.read_bytes()
    key = hashlib.sha256(_READER + text).hexdigest()
    if key not in _stored():
        _stored()[key] = _NEW[key] = _read(text, str(module))
    statements, digest = _stored()[key]
    imports: dict[str, set[str]] = {}
    for level, name, members in statements:
        full = ".".join(part for part in (_anchor(module, level), name) if part)
        imports.setdefault(full, set()).update(members)
    files = set()
    for name in imports:
        if name.split(".")[0] == PACKAGE:
            # `from package import module`
            files |= _files_of(name, root).union(*(_files_of(f"{name}.{m}", root) for m in imports[name]))
    if module.name == "__init__.py" and "pkgutil" in imports:
        files |= set(module.parent.glob("*.py"))
    return _Module(frozenset(files), frozenset(name.split(".")[0] for name in imports), digest)


def _read(text: bytes, name: str) -> tuple[list[tuple[int, str, list[str]]], str]:
    """Imports of a module's text (level, module, members of it) and the digest of its code.

    The tree is not kept. The trees of all modules together would take tens of megabytes.
    """
    tree = ast.parse(text, filename=name)
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", [alias.name for alias in node.names]))
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return imports, hashlib.sha256(ast.dump(tree).encode()).hexdigest()


_NEW: dict[str, tuple] = {}  # texts that this process has read itself


@cache
def _stored() -> dict[str, tuple]:
    return read_store(STORE)


def _store_new() -> None:
    """Runs may store side by side: the last one to write wins, and what it drops is read again."""
    if _NEW:
        stored = read_store(STORE)
        write_store(STORE, (stored if len(stored) < MOST_STORED else {}) | _NEW)
        _NEW.clear()


def _anchor(module: Path, level: int) -> str:
    """The package that a relative import of `level` dots starts from; empty for an absolute one."""
    if level == 0:
        return ""
    parts = module.parts[len(module.parts) - 1 - module.parts[::-1].index(PACKAGE) : -1]
    return ".".join(parts[: len(parts) - level + 1])
