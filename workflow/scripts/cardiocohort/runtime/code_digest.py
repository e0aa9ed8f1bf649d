"""Which library modules a script imports, and a digest of what they do. Owned by no stage.

Snakemake reruns a rule when its script changes, not when a module that the script imports does; with
this digest among its `params`, a change of the library reruns the stages that use it and no others.
Light on purpose (nothing is imported, only parsed): the Snakefile calls it.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "cardiocohort"


def library_digest(script: str | Path) -> str:
    """Digest of the library modules that `script` imports, directly or not, wherever in their code.

    Comments, docstrings and layout do not count. The library is the package beside the script.
    """
    script = Path(script)
    total = hashlib.sha256()
    for module in closure(script):
        total.update(f"{module.relative_to(script.parent).as_posix()} {_parsed(module)[1]}\n".encode())
    return total.hexdigest()[:16]


def closure(script: str | Path) -> list[Path]:
    """Files of the library modules that `script` needs, sorted; packages count with their __init__.

    A package that looks for its own modules (pkgutil) counts with all of them.
    """
    script = Path(script)
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        new = set(_imported(waiting.pop(), script.parent)) - found
        found |= new
        waiting += new
    return sorted(found)


def third_party(script: str | Path) -> set[str]:
    """Top-level names of all that `script` and its library modules import from elsewhere."""
    modules = [Path(script), *closure(script)]
    names = {name.split(".")[0] for module in modules for name, _ in _parsed(module)[0]}
    return names - {PACKAGE}


@cache
def _imported(module: Path, root: Path) -> set[Path]:
    files = set()
    for name, members in _parsed(module)[0]:
        if name.split(".")[0] == PACKAGE:
            files |= _files_of(name, root)
            for member in members:  # `from package import module`
                files |= _files_of(f"{name}.{member}", root)
    if module.name == "__init__.py" and any(name == "pkgutil" for name, _ in _parsed(module)[0]):
        files |= set(module.parent.glob("*.py"))
    return files


@cache
def _files_of(name: str, root: Path) -> set[Path]:
    """The module's file and the __init__ of every package above it; nothing for other names."""
    path = root.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    packages = [parent / "__init__.py" for parent in path.parents if root in parent.parents]
    return {file, *(p for p in packages if p.is_file())} if file.is_file() else set()


@cache
def _parsed(module: Path) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], str]:
    """Imports of a module as (absolute name, imported members), and the digest of its code.

    Only these are kept: the trees of all modules together would take tens of megabytes.
    """
    tree = ast.parse(module.read_text(encoding="utf-8"), filename=str(module))
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            name = ".".join(part for part in (_anchor(module, node.level), node.module) if part)
            imports.append((name, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return tuple(imports), hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _anchor(module: Path, level: int) -> str:
    """The package that a relative import of `level` dots starts from; empty for an absolute one."""
    if level == 0:
        return ""
    parts = module.parts[len(module.parts) - 1 - module.parts[::-1].index(PACKAGE) : -1]
    return ".".join(parts[: len(parts) - level + 1])
