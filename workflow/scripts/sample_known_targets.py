"""Rule sample_known_targets: guided samples of ellipsoid hearts on a grid of exact targets."""

from pathlib import Path

from cardiocohort import files, script, subjects, tables
from cardiocohort.evaluation import known_grid, sampling
from cardiocohort.generation.anatomies import GROUP
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.prior.device import resolve_device


def main(snakemake):
    i, p, out = snakemake.input, snakemake.params, Path(snakemake.output.table)
    device = resolve_device(p.device)
    points = known_grid.places(p.points, p.reach)
    wanted = known_grid.targets(points)
    inputs = files.digest([p.library, files.sha256(i.weights), files.sha256(i.rules), p.guidance, device])
    settings = GuidanceSettings.from_config(p.guidance)
    records = subjects.run_batch(
        out.parent / "known",
        known_grid.tasks(points, wanted, p.seed, inputs),
        sampling.work,
        snakemake.threads if device == "cpu" else 1,
        initializer=sampling.open_sampler,
        initargs=(str(Path(i.bundle).parent), i.rules, settings, device),
        group=GROUP[device],
    )
    tables.write_table(out, known_grid.table(points, records, wanted), known_grid.COLUMNS)


if __name__ == "__main__":
    script.run(main, snakemake)
