"""What every thin script does around its work. Owned by no stage.

    with script.session(snakemake):
        ...

Logging goes to the rule's log file and stderr; an InputError ends the script with its message
alone, anything unexpected with its traceback in the log.
"""

import logging
import sys
from contextlib import contextmanager

from .errors import InputError


@contextmanager
def session(snakemake):
    """Run a rule's work with logging set up from the rule's `log:`."""
    handlers = [logging.StreamHandler(sys.stderr)]
    if snakemake.log:
        handlers.append(logging.FileHandler(snakemake.log[0], mode="w"))
    logging.basicConfig(
        level=logging.INFO, handlers=handlers, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    try:
        yield
    except InputError as error:
        logging.error("%s", error)
        sys.exit(1)
    except Exception:
        logging.exception("unexpected failure in rule %s", snakemake.rule)
        sys.exit(1)


def run(main, snakemake) -> None:
    """Run `main(snakemake)` inside a session: the last line of every thin script."""
    with session(snakemake):
        main(snakemake)
