"""The attacks of `fuzz_targets`, guided by the code that they reach: atheris (libFuzzer for Python).

    python -m pip install atheris==3.0.0
    CASES=10000 python tests/support/fuzz_with_atheris.py [TARGET ...]

Each target runs in a process of its own; one that ends with anything but our own error is told, with the
attack that made it, and the exit status is 1. Atheris is not in the lock: it has no wheels for many machines.
"""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = int(os.environ.get("CASES", "10000"))
SEED = int(os.environ.get("SEED", "1"))
STARTS = 32  # inputs that libFuzzer sets out from: its own first one, a byte, is too short to draw by
LONGEST = 4096  # bytes of an input


def fuzz(name: str, folder: Path) -> None:
    """Attack one target until the cases are done; libFuzzer ends the process."""
    import atheris

    # ours alone: what a reader does with a file is decided here, and everything else would be slow
    with atheris.instrument_imports(include=["cardiocohort"], enable_loader_override=False):
        from fuzz_targets import attack_on
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

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
        with tempfile.TemporaryDirectory() as folder:
            line = [sys.executable, __file__, "--one", name, folder]
            run = subprocess.run(
                line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
        print(f"{name}: {'passed' if run.returncode == 0 else 'FAILED'}", flush=True)
        if run.returncode:
            failed.append(name)
            print(run.stdout[-6000:], flush=True)
    print(f"{len(names)} targets, {CASES} inputs each, {len(failed)} failed {' '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.path[:0] = [str(REPOSITORY / "tests/support"), str(REPOSITORY / "workflow/scripts")]
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], Path(sys.argv[3]))
    else:
        from fuzz_targets import TARGETS

        sys.exit(main(sys.argv[1:] or list(TARGETS)))
