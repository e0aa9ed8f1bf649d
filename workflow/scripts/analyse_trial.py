"""Rule analyse_trial: tables and figures of the endpoints, from the subject table."""

import json
import logging
from pathlib import Path

from cardiocohort.cohort import subject_columns
from cardiocohort.plotting import pages
from cardiocohort.runtime import artifacts, script, tables
from cardiocohort.trial import baseline, contrasts, correlations, endpoints, figures, missing, pairing, power


def main(snakemake):
    i, o, p = snakemake.input, snakemake.output, snakemake.params
    settings = p.endpoints
    columns = subject_columns.from_dictionary(json.loads(Path(i.dictionary).read_text(encoding="utf-8")))
    kinds = {name: subject_columns.DTYPES[column.kind] for name, column in columns.items()}
    subjects = tables.read_table(i.subjects, kinds)
    wanted = endpoints.read(settings, columns)
    compared = pairing.comparisons(subjects, wanted, p.reference)
    for remark in pairing.remarks(compared):
        logging.warning(remark)
    alpha, seed = settings["alpha"], settings["seed"]
    found = contrasts.contrasts(compared, subjects, settings["adjust_for"], alpha)
    curves, sizes = power.power_tables(compared, alpha, settings["power"], settings["resamples"], seed)
    together = correlations.correlations(subjects, columns)
    names = baseline.names_of(columns, [endpoint.column for endpoint in wanted])
    written = {
        "baseline": baseline.baseline(subjects, columns, names),
        "contrasts": found,
        "power": curves,
        "sample_sizes": sizes,
        "missing": missing.tipping_points(compared, found, subjects, alpha),
        "correlations": together,
    }
    drawn = {
        "forest_figure": figures.forest(found),
        "distributions_figure": figures.distributions(compared),
        "power_figure": figures.power(curves, settings["power"]),
        "correlations_figure": figures.correlations(together),
    }
    for name, frame in written.items():
        tables.write_table(o[name], frame, {})
    for name, figure in drawn.items():
        with artifacts.atomic_path(o[name]) as path:
            path.write_bytes(pages.png(figure))


if __name__ == "__main__":
    script.run(main, snakemake)
