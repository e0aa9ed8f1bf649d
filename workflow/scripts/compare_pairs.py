"""Rule compare_pairs: simulated siblings of an arm beside their bases, as tables and as a figure."""

import logging
from pathlib import Path

from cardiocohort.runtime import artifacts, script
from cardiocohort.simulation import pairs, pairs_figure


def main(snakemake):
    i, o, p = snakemake.input, snakemake.output, snakemake.params
    found = [
        pairs.hearts([Path(file) for file in simulations], anatomies, p.structure)
        for simulations, anatomies in ((i.base_simulations, i.base_anatomies), (i.simulations, i.anatomies))
    ]
    table = pairs.pairs(*found)
    if p.one_origin:
        logging.warning(
            f"{p.arm}: the pairs {p.one_origin}, so they are not independent and have no interval"
        )
    for path, frame in ((o.pairs, table), (o.summary, pairs.summary(table, not p.one_origin))):
        with artifacts.atomic_path(path) as temporary:
            frame.to_csv(temporary, sep="\t", index=False, float_format="%.6g")
    figure = pairs_figure.displacement_by_volume(table, p.structure, p.base, p.arm)
    with artifacts.atomic_path(o.figure) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


if __name__ == "__main__":
    script.run(main, snakemake)
