"""Rule draw_targets: target moments of one batch of an arm, drawn from the population or given by the user.

Inputs: bundle (bundle.json) and reference (moments and covariates), or
targets_table (explicit targets; a reference beside it lets them be judged),
reference_parts (moments of parts in a population, for arms that name some),
covariates_table (covariates of the user). Siblings: base_targets and
base_anatomies (tables of their base's batch), or base_map (a label map file). Params: arm
(`Arm.to_dict()`), first and last (subject indices, both included), seed, truncation.
"""

import logging
from pathlib import Path

import pandas as pd

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.cohort import covariates, stage_tables, target_arms
from cardiocohort.cohort.table import Arm, subject_name
from cardiocohort.label_maps.reading import open_convention
from cardiocohort.label_maps.sibling_base import read_base_map, read_made
from cardiocohort.population import part_spreads, siblings
from cardiocohort.population.explicit import explicit_targets, read_targets
from cardiocohort.population.parts import read_parts
from cardiocohort.population.plausibility import population_for, warnings_of
from cardiocohort.population.reference import read_reference
from cardiocohort.population.targets import drawn_targets
from cardiocohort.population.units import usual_of
from cardiocohort.runtime import script, tables


def bases_of(inputs, arm, indices, anatomy, grid, reading):
    """Bases by index, and the function that gives their label maps."""
    if inputs.get("base_map"):
        convention = open_convention(inputs.convention, anatomy, reading["geometry"])
        labels = read_base_map(inputs.base_map, anatomy, grid, convention)
        return siblings.bases_of_map(indices, labels, anatomy, grid), lambda index: labels
    wanted = tables.read_table(inputs.base_targets, stage_tables.TARGETS)
    achieved = tables.read_table(inputs.base_anatomies, stage_tables.ANATOMIES)
    folder = Path(inputs.base_anatomies).with_suffix("")
    bases = siblings.bases_of_tables(arm, indices, wanted, achieved)
    return bases, lambda index: read_made(subject_name(arm.base, index), achieved, folder, anatomy)


def _targets_table(inputs, anatomy, usual):
    """Explicit targets; none where the config names no table."""
    if not inputs.get("targets_table"):
        return pd.DataFrame({"arm": []})
    return read_targets(inputs.targets_table, anatomy, usual)


def measured_parts(inputs, arm, grid):
    """The arm's parts that the table of parts has measured."""
    if not inputs.get("reference_parts"):
        return []
    measured = target_arms.parts_as_measured(arm, inputs.reference_parts, grid)
    if others := [name for name in arm.parts() if name not in measured]:
        logging.info(
            "%s has no %s of the same domain: spreads are those of the whole structure",
            inputs.reference_parts,
            ", ".join(others),
        )
    return measured


def read_population(inputs, arm, reference, parts):
    """The population of an arm, with those of its parts that were measured."""
    if not parts:
        return population_for(arm, reference)
    walls = arm.walls() & target_arms.measured_parts(inputs.reference_parts)[1]
    model = read_parts(inputs.reference_parts, parts, arm.domains, reference.structures, walls)
    return population_for(arm, reference, model)


def main(snakemake):
    inputs, p = snakemake.input, snakemake.params
    anatomy, grid = read_anatomy(inputs.bundle)
    arm = Arm.from_dict(p.arm)
    indices = range(p.first, p.last + 1)
    reference = inputs.get("reference")
    known = covariates.known(inputs.get("covariates_table"))
    usual = usual_of(read_reference(inputs.usual, anatomy))
    population, parts = None, measured_parts(inputs, arm, grid)
    if reference:
        population = read_population(inputs, arm, read_reference(reference, anatomy, usual, known), parts)
    if arm.base:
        bases, labels_of = bases_of(inputs, arm, indices, anatomy, grid, p.base_reading)
        bases, places = siblings.with_parts_of_all(arm, bases, labels_of, anatomy, grid)
        targets = siblings.sibling_targets(arm, indices, p.seed, bases, population, places)
    elif arm.name in set((table := _targets_table(inputs, anatomy, usual))["arm"]):
        targets = explicit_targets(arm, indices, p.seed, table, population, grid)
    else:
        targets = drawn_targets(arm, indices, p.seed, population, p.truncation, grid)
    if parts:
        targets = part_spreads.with_spreads(targets, inputs.reference_parts, parts)
    for warning in warnings_of(arm, targets, population, grid):
        logging.warning(warning)
    tables.write_table(snakemake.output.table, targets, stage_tables.TARGETS)
    logging.info("%s: targets of %d subjects", snakemake.output.table, len(indices))


if __name__ == "__main__":
    script.run(main, snakemake)
