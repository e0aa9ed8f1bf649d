"""The lines about a whole run: events of Snakemake at given times, and a run of Snakemake itself."""

import logging

from snakemake_interface_logger_plugins.common import LogEvent

from cardiocohort.runtime import run_progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_left_follows_from_the_jobs_that_ended(caplog):
    """Four jobs of `mesh` of 20 s each, two side by side, then one of a rule that has not run."""
    clock, log = Clock(), logging.getLogger("snakemake_test")
    handler = run_progress.RunProgress(log, clock)

    def event(name: LogEvent, **values):
        handler.emit(logging.makeLogRecord({"event": name, **values}))

    event(LogEvent.RUN_INFO, stats={"mesh": 6, "report": 1, "total": 7})
    with caplog.at_level(logging.INFO, "snakemake_test"):
        done = 0
        for jobs in ((1, 2), (3, 4)):
            for job in jobs:
                event(LogEvent.JOB_INFO, jobid=job, rule_name="mesh")
            clock.now += 20.0
            for job in jobs:
                event(LogEvent.JOB_FINISHED, job_id=job)
                done += 1
                event(LogEvent.PROGRESS, done=done, total=7)
        # two jobs of 20 s are left, two at a time, and one of unknown duration
        event(LogEvent.JOB_INFO, jobid=7, rule_name="report")
        clock.now += 11.0
        event(LogEvent.JOB_FINISHED, job_id=7)
        event(LogEvent.PROGRESS, done=5, total=7)
        clock.now += 50.0
        event(LogEvent.PROGRESS, done=7, total=7)
    # 4 waiting jobs of 20 s, two at a time; 2 of them; 2 of them over 91 s of work in 51 s
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 7 jobs, 20 s so far, at least 40 s left",
        "3 of 7 jobs, 40 s so far, at least 20 s left",
        "5 of 7 jobs, 51 s so far, about 22 s left",
    ]
