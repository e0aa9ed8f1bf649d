"""Rule analyse_trial: tables and figures of the endpoints, from the subject table."""

from cardiocohort.cohort import covariates, subject_columns
from cardiocohort.plotting import pages
from cardiocohort.runtime import artifacts, script, tables
from cardiocohort.trial import baseline, contrasts, correlations, endpoints, figures, missing, pairing, power


def main(snakemake):
    i, o, p = snakemake.input, snakemake.output, snakemake.params
    settings = p.endpoints
    known = covariates.known(i.get("covariates_table"))
    columns = subject_columns.columns(tuple(p.structures), known, subject_columns.relations(p.arms))
    subjects = tables.read_table(i.subjects, {"subject": "str", "arm": "str", "base": "str", "status": "str"})
    columns = {name: column for name, column in columns.items() if name in subjects.columns}
    wanted = endpoints.read(settings, columns)
    reference = endpoints.reference_of(settings, [arm["name"] for arm in p.arms])
    compared = pairing.comparisons(subjects, wanted, reference)
    alpha, seed = settings["alpha"], settings["seed"]
    found = contrasts.contrasts(compared, subjects, settings["adjust_for"], alpha, seed)
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
