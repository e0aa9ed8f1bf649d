"""What every thin script does around its work. Owned by no stage.

    with script.session(snakemake):
        ...

Logging goes to the rule's log file and stderr; an InputError, a KilledError or Ctrl-C ends the script with
its message alone, anything unexpected with its traceback in the log.
"""

import errno
import logging
import sys
from contextlib import contextmanager

from .errors import InputError, KilledError

# a disk that is full, over its quota, read-only, of others or broken: no fault of the program's
DISK = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE")
    if hasattr(errno, name)
}


def start_logging(path: str | None, mode: str = "w") -> None:
    """Log to stderr and to the file `path`, which is begun anew or appended to (`mode` "a")."""
    handlers = [logging.StreamHandler(sys.stderr)]
    if path:
        handlers.append(logging.FileHandler(path, mode=mode))
    logging.basicConfig(
        level=logging.INFO, handlers=handlers, format="%(asctime)s %(levelname)s %(message)s", force=True
    )


@contextmanager
def session(snakemake):
    """Run a rule's work with logging set up from the rule's `log:`."""
    try:
        start_logging(snakemake.log[0] if snakemake.log else None)
        yield
    except (InputError, KilledError) as error:
        logging.error("%s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        logging.error("interrupted; what is finished is kept: the same command again goes on from there")
        sys.exit(130)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            logging.error(
                "%s: %s; what is finished is kept: see to it, then run the same command again",
                error.filename or f"rule {snakemake.rule}",
                error.strerror,
            )
            sys.exit(1)
        logging.exception("unexpected failure in rule %s", snakemake.rule)
        sys.exit(1)


def run(main, snakemake) -> None:
    """Run `main(snakemake)` inside a session: the last line of every thin script."""
    with session(snakemake):
        main(snakemake)
