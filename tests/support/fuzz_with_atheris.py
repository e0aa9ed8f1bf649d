"""The attacks of `fuzz_targets`, guided by the code that they reach: atheris (libFuzzer for Python).

    python -m pip install atheris==3.0.0
    CASES=10000 python tests/support/fuzz_with_atheris.py [TARGET ...]

Each target runs in a fork of this process. If anything but our own error ends it, the attack that did so is
printed and the exit status is 1. Atheris is not in the lock: it has no wheels for many machines.
"""

import os
import random
import sys
import tempfile
import traceback
from pathlib import Path

import atheris
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = int(os.environ.get("CASES", "10000"))
SEED = int(os.environ.get("SEED", "1"))
STARTS = 32  # inputs that libFuzzer sets out from: its own first one, a byte, is too short to draw by
LONGEST = 4096  # bytes of an input

sys.path[:0] = [str(REPOSITORY / "tests/support"), str(REPOSITORY / "workflow/scripts")]
# ours alone: what a reader does with a file is decided here, and everything else would be slow
with atheris.instrument_imports(include=["cardiocohort"], enable_loader_override=False):
    from fuzz_targets import TARGETS, attack_on


def fuzz(name: str, folder: Path) -> None:
    """Attack one target until the cases are done; libFuzzer ends the process."""
    attack = attack_on(name, folder)

    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def attacked(data):
        attack(data.draw)

    corpus, bytes_of = folder / "corpus", random.Random(SEED)
    corpus.mkdir()
    for k in range(STARTS):
        (corpus / str(k)).write_bytes(bytes_of.randbytes(LONGEST // (1 + k % 4)))
    options = [f"-runs={CASES}", f"-seed={SEED}", f"-max_len={LONGEST}", "-len_control=0", "-timeout=60"]
    options += ["-rss_limit_mb=4000", "-verbosity=0", f"-artifact_prefix={folder}/", str(corpus)]
    atheris.Setup([sys.argv[0], *options], attacked.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def main(names: list[str]) -> int:
    failed = []
    for name in names:
        with (
            tempfile.TemporaryDirectory() as folder,
            tempfile.TemporaryFile("w+", errors="replace") as output,
        ):
            if not (child := os.fork()):
                for stream in (1, 2):
                    os.dup2(output.fileno(), stream)
                try:
                    fuzz(name, Path(folder))
                except BaseException:
                    traceback.print_exc()
                os._exit(1)  # libFuzzer ends a good run itself
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(f"{name}: {'FAILED' if code else 'passed'}", flush=True)
            if code:
                failed.append(name)
                output.seek(0)
                print(output.read()[-6000:], flush=True)
    print(f"{len(names)} targets, {CASES} inputs each, {len(failed)} failed {' '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(TARGETS)))
