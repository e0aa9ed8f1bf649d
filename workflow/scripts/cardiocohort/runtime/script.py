"""What every thin script does around its work. Owned by no stage.

    with script.session(snakemake):
        ...

The same lines go to the rule's log file and to stderr, which is the terminal or the cluster's log. Each line
names its rule. Of other libraries only warnings are shown. An InputError, a KilledError or Ctrl-C ends the
script with its message alone, anything unexpected with its traceback in the log.
"""

import errno
import logging
import sys
import warnings
from contextlib import contextmanager

from .errors import InputError, KilledError

# a disk that is full, over its quota, read-only, of others or broken: no fault of the program's
DISK = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE")
    if hasattr(errno, name)
}


_started: tuple[str | None, str] | None = None  # path and rule that logging of this process began with


def start_logging(path: str | None, mode: str = "w", rule: str = "") -> None:
    """Log to stderr and to the file `path`, which is begun anew or appended to (`mode` "a").

    rule: stands on every line.
    """
    global _started
    _started = (path and str(path), rule)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path:
        if mode == "w":
            open(path, "w").close()
        # appended to in any case: child processes write to the same file
        handlers.append(logging.FileHandler(path, mode="a", encoding="utf-8"))
    for handler in handlers:
        handler.addFilter(_is_for_users)
    logging.basicConfig(
        level=logging.INFO, handlers=handlers, force=True, datefmt="%Y-%m-%d %H:%M:%S",
        format=f"%(asctime)s %(levelname)s {rule and rule + ': '}%(message)s",
    )  # fmt: skip
    warnings.showwarning = _show_warning


def log_file() -> str | None:
    """The file that this process logs to, if there is one."""
    return _started[0] if _started else None


def logging_for_children() -> tuple:
    """Arguments of `start_logging` for a child process that logs as this one does; () without logging."""
    return (_started[0], "a", _started[1]) if _started else ()


def _is_for_users(record: logging.LogRecord) -> bool:
    """Whether a line is ours, or a library's warning. Scripts log by the root logger."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in ("cardiocohort", "root")


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """A warning as one line of the log. What a library will change later is for developers, not for users.

    By name: libraries have classes of their own for this, such as PyVistaDeprecationWarning.
    """
    if not category.__name__.endswith(("DeprecationWarning", "FutureWarning")):
        logging.getLogger("py.warnings").warning(
            "%s: %s (%s, line %d)", category.__name__, " ".join(str(message).split()), filename, lineno
        )


@contextmanager
def session(snakemake):
    """Run a rule's work with logging set up from the rule's `log:`."""
    try:
        start_logging(snakemake.log[0] if snakemake.log else None, rule=snakemake.rule)
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
