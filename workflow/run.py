"""What `make run` does: unlock the working directory if a killed run left it locked, then Snakemake.

Arguments go to Snakemake as they are, but targets may stand anywhere. A config file that cannot be read, and
a config entry that is none, end the call with one line.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from cardiocohort.config import command_line
from cardiocohort.config.typed_text import read_config
from cardiocohort.runtime import stale_lock
from cardiocohort.runtime.errors import InputError

SNAKEFILE = Path(__file__).resolve().parent / "Snakefile"


def working_directory(arguments: list[str]) -> Path:
    """Where Snakemake will work: its option -d or --directory, the last of several, or here."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-d", "--directory", default=".")
    return Path(parser.parse_known_args(arguments)[0].directory)


def prepared(arguments: list[str]) -> list[str]:
    """The arguments with targets first; InputError for what Snakemake would end with a traceback."""
    targets = command_line.targets_of(SNAKEFILE)
    arguments = command_line.in_order(arguments, targets)
    command_line.check(arguments, targets)
    own = working_directory(arguments) / "config/config.yaml"
    if own.exists():
        read_config(own)
    return arguments


def main(arguments: list[str]) -> None:
    try:
        arguments = prepared(arguments)
    except InputError as error:
        sys.exit(f"Error: {error}")
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    if stale_lock.left_locked(working_directory(arguments)):
        print("The last run here was killed; removing its lock.", file=sys.stderr)
        subprocess.run([*snakemake, "--unlock", *arguments], check=True)
    # exec: Ctrl-C and the exit code are Snakemake's own
    os.execv(sys.executable, [*snakemake, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
