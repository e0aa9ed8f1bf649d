"""Rule summarise_guidance: tables and charts of what settings of guidance cost and reach."""

import pandas as pd

import guidance_benchmark_figures
import guidance_benchmark_settings as benchmark_settings
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.runtime import artifacts, script


def main(snakemake):
    p, o = snakemake.params, snakemake.output
    samples = pd.read_csv(snakemake.input.samples, sep="\t")
    given = GuidanceSettings.from_config(p.guidance)
    own = benchmark_settings.of_config(given)
    frontier = benchmark_settings.summary(samples, benchmark_settings.frontier(given, p.bench["levels"]))
    sensitivity = benchmark_settings.summary(
        samples, benchmark_settings.sensitivity(given, p.bench["factors"])
    )
    charts = {
        "frontier": guidance_benchmark_figures.frontier_figure(frontier, {setting.name for setting in own}),
        "sensitivity": guidance_benchmark_figures.sensitivity_figure(sensitivity),
    }
    for name, table in {"frontier": frontier, "sensitivity": sensitivity}.items():
        with artifacts.atomic_path(o[name]) as path:
            table.to_csv(path, sep="\t", index=False, float_format="%.4g")
        with artifacts.atomic_path(o[f"{name}_chart"]) as path:
            charts[name].savefig(path, dpi=100, format="png")


if __name__ == "__main__":
    script.run(main, snakemake)
