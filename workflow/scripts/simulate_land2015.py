"""Rule solve_land2015: problems of Land et al. (2015), their solutions beside the published ones."""

import pandas as pd

from cardiocohort.runtime import artifacts, script


def main(snakemake):
    # where NGSolve cannot be loaded, one message says why
    from cardiocohort.simulation import land2015
    from cardiocohort.simulation.finite_elements import ng

    ng.SetNumThreads(snakemake.threads)
    published = pd.read_csv(snakemake.input.published, sep="\t")
    rows = [row for case in land2015.CASES for row in land2015.compare(case, published)]
    with artifacts.atomic_path(snakemake.output.table) as path:
        pd.DataFrame(rows).to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    script.run(main, snakemake)
