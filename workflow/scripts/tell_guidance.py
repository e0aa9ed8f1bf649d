"""Rule tell_guidance: tables and charts of what settings of guidance cost and reach."""

import pandas as pd

from cardiocohort import files, script
from cardiocohort.generation import frontier_figures, frontier_settings
from cardiocohort.generation.settings import GuidanceSettings


def main(snakemake):
    p, o = snakemake.params, snakemake.output
    samples = pd.read_csv(snakemake.input.samples, sep="\t")
    given = GuidanceSettings.from_config(p.guidance)
    own = frontier_settings.of_config(given)
    frontier = frontier_settings.summary(samples, frontier_settings.frontier(given, p.bench["levels"]))
    sensitivity = frontier_settings.summary(samples, frontier_settings.sensitivity(given, p.bench["factors"]))
    charts = {
        "frontier": frontier_figures.frontier_figure(frontier, {setting.name for setting in own}),
        "sensitivity": frontier_figures.sensitivity_figure(sensitivity),
    }
    for name, table in {"frontier": frontier, "sensitivity": sensitivity}.items():
        with files.atomic_path(o[name]) as path:
            table.to_csv(path, sep="\t", index=False, float_format="%.4g")
        with files.atomic_path(o[f"{name}_chart"]) as path:
            charts[name].savefig(path, dpi=100, format="png")


if __name__ == "__main__":
    script.run(main, snakemake)
