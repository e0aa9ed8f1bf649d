"""Rule summarise_refinement: the same hearts at several edge lengths, as a table and as a figure."""

from pathlib import Path

from cardiocohort.report import refinement, refinement_figure
from cardiocohort.runtime import artifacts, script


def main(snakemake):
    i, o = snakemake.input, snakemake.output
    table = refinement.study(map(Path, i.meshes), map(Path, i.simulations))
    with artifacts.atomic_path(o.table) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.6g")
    figure = refinement_figure.by_number_of_tets(table)
    with artifacts.atomic_path(o.figure) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


if __name__ == "__main__":
    script.run(main, snakemake)
