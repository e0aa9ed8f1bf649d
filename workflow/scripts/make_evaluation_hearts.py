"""Rule make_evaluation_hearts: hearts that the prior has not seen, as targets and for comparison."""

from dataclasses import asdict
from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.anatomy.folder import read_variation
from cardiocohort.evaluation import hearts, table_columns
from cardiocohort.label_maps.reading import open_convention
from cardiocohort.runtime import artifacts, script, tables
from cardiocohort.runtime.outcomes import Outcome


def main(snakemake):
    i, p, threads = snakemake.input, snakemake.params, snakemake.threads
    anatomy, grid = read_anatomy(i.bundle)
    hearts.check_constrained(p.constrained, anatomy)
    out = Path(snakemake.output.table)
    folder, variation = out.with_suffix(""), read_variation(i.anatomy)
    context = anatomy, grid, i.rules, i.values, variation
    used = [p.library, p.rules_sha256, p.digests, p.seed, p.shares, p.nifti_geometry, asdict(variation)]
    used += [p.left_out_shares, p.anatomy, p.anatomy_sha256]
    inputs = artifacts.digest(used)
    if i.get("label_maps"):
        maps = dict(zip(p.subjects, map(Path, i.label_maps), strict=True))
        convention = open_convention(i.convention, anatomy, p.nifti_geometry)
        found = hearts.copied(folder / "alike", context, maps, convention, inputs, threads)
    else:
        indices = range(p.targets + p.counts["reference"])
        templates = dict(zip(i.templates, p.shares, strict=True))
        found = hearts.deformed(folder / "alike", context, templates, indices, p.seed, inputs, threads)
    sets = hearts.split(found, p.targets, p.counts["reference"])
    if p.left_out_shares and p.counts["left_out"]:
        templates = dict(zip(i.left_out, p.left_out_shares, strict=True))
        other, indices = folder / "left_out", range(p.counts["left_out"])
        made = hearts.deformed(other, context, templates, indices, p.seed, inputs, threads)
        sets[hearts.LEFT_OUT] = [record for record in made if record["verdict"] == Outcome.ACCEPTED]
    folders = dict.fromkeys(sets, "alike") | {hearts.LEFT_OUT: "left_out"}
    tables.write_table(out, hearts.table(sets, folders, anatomy), table_columns.HEARTS)


if __name__ == "__main__":
    script.run(main, snakemake)
