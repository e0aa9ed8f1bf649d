"""How far a whole run is, and how long it will take: lines among those of Snakemake. Owned by no stage.

A handler of Snakemake's logger: it follows the events of jobs, and so needs nothing of the rules. The lines
are on the terminal and in Snakemake's own log, for local runs as for a cluster.
"""

import logging
import time
from collections import Counter

from .progress import duration

QUIET_S = 10.0  # between two lines; thousands of jobs must not fill the log


class RunProgress(logging.Handler):
    """Says `12 of 40 jobs, 3 min so far, about 6 min left` on `logger` as jobs finish.

    The time left is the mean duration of each rule times its jobs left, over the number of jobs that ran side
    by side. It is a lower bound (`at least`) while there are jobs of rules of which none has finished.
    """

    def __init__(self, logger: logging.Logger, now=time.monotonic):
        super().__init__(logging.INFO)
        self._logger, self._now = logger, now
        self._left: Counter[str] = Counter()
        self._running: dict[int, tuple[str, float]] = {}
        self._seconds: dict[str, list[float]] = {}
        self._began = self._spoke = now()

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == "run_info":
            self._left = Counter({rule: n for rule, n in record.stats.items() if rule != "total"})
            self._began = self._spoke = self._now()
        elif event == "job_info":
            self._running[record.jobid] = (record.rule_name, self._now())
        elif event == "job_finished" and record.job_id in self._running:
            rule, began = self._running.pop(record.job_id)
            self._seconds.setdefault(rule, []).append(self._now() - began)
            self._left[rule] -= 1
        elif event == "progress":
            self._say(record.done, record.total)

    def _say(self, done: int, total: int) -> None:
        now = self._now()
        if done == total or now - self._spoke < QUIET_S:
            return
        self._spoke = now
        self._logger.info(
            f"{done} of {total} jobs, {duration(now - self._began)} so far{self._remaining(now)}"
        )

    def _remaining(self, now: float) -> str:
        """`, about 6 min left`; nothing before a job has finished."""
        if not self._seconds:
            return ""
        running = {key: now - began for key, (_, began) in self._running.items()}
        busy = sum(map(sum, self._seconds.values())) + sum(running.values())
        side_by_side = max(busy / max(now - self._began, 1e-9), 1.0)
        waiting = self._left - Counter(rule for rule, _ in self._running.values())
        mean = {rule: sum(seconds) / len(seconds) for rule, seconds in self._seconds.items()}
        work = sum(n * mean[rule] for rule, n in waiting.items() if rule in mean)
        work += sum(
            max(mean[rule] - running[key], 0.0) for key, (rule, _) in self._running.items() if rule in mean
        )
        known = all(rule in mean for rule, n in self._left.items() if n > 0)
        return f", {'about' if known else 'at least'} {duration(work / side_by_side)} left"
