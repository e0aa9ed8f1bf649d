"""Rule bench_guidance: samples of the same targets by many settings of guidance, timed."""

from pathlib import Path

import pandas as pd

import guidance_benchmark
import guidance_benchmark_settings as benchmark_settings
from cardiocohort.cohort import stage_tables
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.runtime import artifacts, script, tables


def main(snakemake):
    i, p = snakemake.input, snakemake.params
    targets = pd.concat([tables.read_table(path, stage_tables.TARGETS) for path in i.targets])
    rows = [own for _, own in targets.groupby("subject", sort=False) if (own["constrained"] != "").any()]
    rows = [rows[k] for k in benchmark_settings.spread(len(rows), p.bench["targets"])]
    given = GuidanceSettings.from_config(p.guidance)
    settings = [benchmark_settings.frontier(given, p.bench["levels"]) for _ in rows]
    for k in benchmark_settings.spread(len(rows), p.bench["sensitivity_targets"]):
        both = settings[k] + benchmark_settings.sensitivity(given, p.bench["factors"])
        settings[k] = list(dict.fromkeys(both))
    bundle = str(Path(i.bundle).parent)
    found = guidance_benchmark.sample(bundle, i.rules, rows, settings, p.device, snakemake.threads)
    with artifacts.atomic_path(snakemake.output.table) as path:
        found.to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
