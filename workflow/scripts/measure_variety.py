"""Rule measure_variety: the spread of unguided samples beside that of real hearts."""

import logging
from pathlib import Path

import numpy as np

from cardiocohort import topology
from cardiocohort.anatomy import moments
from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.evaluation import variety, whole_hearts
from cardiocohort.evaluation.arms import Arm
from cardiocohort.evaluation.samples import read_samples
from cardiocohort.label_maps import reading
from cardiocohort.population.reference import read_reference
from cardiocohort.runtime import script, tables


def main(snakemake):
    i, p = snakemake.input, snakemake.params
    anatomy, grid = read_anatomy(i.bundle)
    rules = topology.load_rules(i.rules, anatomy)
    convention = reading.open_convention(i.convention, anatomy, p.nifti_geometry)
    groups = [(anatomy.label(name),) for name in anatomy.structures]
    measured = [
        moments.measure_labels(
            whole_hearts.read(path, anatomy, grid, rules, convention), groups, grid.axes_mm()
        )
        for path in i.label_maps
    ]
    real = moments.of_each(lambda *parts: np.stack(parts), *measured)
    samples = read_samples(i.samples, Arm.from_dict(p.arm)).hearts.moments
    reference = read_reference(Path(i.bundle).parent / "reference_moments.parquet", anatomy)
    population = reference.moments[:, [reference.structures.index(name) for name in anatomy.structures]]
    rows = variety.table(samples, real, population, anatomy.structures, p.resamples, p.seed)
    tables.write_table(snakemake.output.table, rows, variety.COLUMNS)
    logging.getLogger(__name__).info("\n%s", variety.by_group(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    script.run(main, snakemake)
