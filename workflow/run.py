"""What `make run` does: unlock the working directory if a killed run left it locked, then Snakemake.

Arguments go to Snakemake as they are.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from cardiocohort.runtime import stale_lock

HERE = Path(__file__).resolve().parent


def working_directory(arguments: list[str]) -> Path:
    """Where Snakemake will work: its option -d or --directory, the last of several, or here."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-d", "--directory", default=".")
    return Path(parser.parse_known_args(arguments)[0].directory)


def main(arguments: list[str]) -> None:
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(HERE / "Snakefile")]
    if stale_lock.left_locked(working_directory(arguments)):
        print("The last run here was killed; removing its lock.", file=sys.stderr)
        subprocess.run([*snakemake, "--unlock", *arguments], check=True)
    # exec: Ctrl-C and the exit code are Snakemake's own
    os.execv(sys.executable, [*snakemake, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
