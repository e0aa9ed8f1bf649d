"""Files as an enemy, a bad disk or a careless export would make them of whole ones; drawn by hypothesis."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
from hypothesis import strategies as st

HOSTILE_WORDS = (
    "nan", "inf", "-inf", "-1", "0", "1e999", "1e-320", "99999999999999999999", "", " ", '"', "'", "#", "\0",
    "../../x", "/etc/passwd", "$(touch x)", "`id`", "; rm -rf x", "{batch}", "a\tb", "é", "\u202e", "\ufeff",
    "True", "null", "a+a", "a/b", "x*1e9", "\r", "1_000", "٣", "0x10", "+5", "x" * 300,
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(), st.integers(-(2**63), 2**63), st.floats(), st.sampled_from((0, -1, 2**31, 2**32, 10**30))
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(HOSTILE_WORDS), st.text(max_size=20)),
    lambda children: st.one_of(
        st.lists(children, max_size=4), st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=8,
)


def damaged(draw: Callable, content: bytes) -> bytes:
    """Cut off, with bytes changed, put in, taken out or repeated; now and then something else altogether."""
    kind = draw(st.sampled_from(("cut", "flip", "flip", "insert", "remove", "repeat", "other")))
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    if kind == "cut":
        return content[:at]
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(draw(st.integers(1, 4))):
            if changed:
                changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
        return bytes(changed)
    if kind == "insert":
        return content[:at] + draw(st.binary(max_size=20)) + content[at:]
    end = at + draw(st.integers(1, 40))
    if kind == "remove":
        return content[:at] + content[end:]
    if kind == "repeat":
        return content[:end] + content[at:]
    return draw(st.binary(max_size=200))


def hostile_table(draw: Callable, text: str) -> str:
    """A tab-separated table with cells, lines and columns changed; now and then damaged as bytes."""
    rows = [line.split("\t") for line in text.splitlines()]
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(rows) - 1))
        j = draw(st.integers(0, max(len(rows[i]) - 1, 0)))
        kind = draw(st.sampled_from(("cell", "cell", "cell", "longer", "shorter", "twice", "swap", "empty")))
        if kind == "cell" and rows[i]:
            word = st.one_of(st.sampled_from(HOSTILE_WORDS), NUMBERS.map(str), st.text(max_size=12))
            kept = draw(st.sampled_from(("", rows[i][j], rows[i][j][: len(rows[i][j]) // 2])))
            rows[i][j] = kept + draw(word)
        elif kind == "longer":
            rows[i] = rows[i] + [draw(st.sampled_from(HOSTILE_WORDS))]
        elif kind == "shorter":
            rows[i] = rows[i][:j]
        elif kind == "twice":
            rows.insert(i, list(rows[i]))
        elif kind == "swap" and rows[i]:
            rows[i][0], rows[i][j] = rows[i][j], rows[i][0]
        elif kind == "empty":
            rows[i] = []
    return "\n".join("\t".join(row) for row in rows) + draw(st.sampled_from(("\n", "", "\n\n", "\r\n")))


def hostile_json(draw: Callable, value):
    """A JSON value with one of its parts replaced, dropped or added to."""
    value = json.loads(json.dumps(value))
    part, key, parent = value, None, None
    for _ in range(draw(st.integers(1, 4))):
        if not isinstance(part, dict | list) or not part:
            break
        parent, key = (
            part,
            draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part)))),
        )
        part = parent[key]
    if parent is None or draw(st.integers(0, 30)) == 0:
        return draw(JSON)
    if draw(st.integers(0, 4)) == 0:
        del parent[key]
    else:
        parent[key] = draw(JSON)
    return value


def hostile_nifti(draw: Callable, content: bytes) -> bytes:
    """A NIfTI-1 file with fields of its header changed to anything that fits in them."""
    size = nib.nifti1.header_dtype.itemsize
    header = bytearray(content[:size])
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(nib.nifti1.header_dtype.names))
        field, offset = nib.nifti1.header_dtype.fields[name][:2]
        item = draw(st.integers(0, max(int(field.itemsize // field.base.itemsize) - 1, 0)))
        start = offset + item * field.base.itemsize
        if field.base.kind == "f":
            new = nib.nifti1.np.array(draw(st.floats(width=32)), field.base).tobytes()
        else:
            new = draw(st.binary(min_size=field.base.itemsize, max_size=field.base.itemsize))
        header[start : start + len(new)] = new
    return bytes(header) + content[size:]


def hostile_safetensors(draw: Callable, content: bytes) -> bytes:
    """A safetensors file whose header states other types, shapes and places."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(hostile_json(draw, json.loads(content[8 : 8 + length]))).encode()
    stated = draw(st.sampled_from((len(header), len(header), len(header), 2**63, 0, len(header) - 1, 2**40)))
    return stated.to_bytes(8, "little") + header + content[8 + length :]


def packed(draw: Callable, content: bytes, make: Callable) -> bytes:
    """`make(draw, content)` inside gzip, or a gzip stream that is itself damaged."""
    if draw(st.booleans()):
        return gzip.compress(make(draw, content), 1)
    return damaged(draw, gzip.compress(content, 1))


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path
