"""Rule sample_ellipsoid_targets: guided samples of ellipsoid hearts on a grid of exact targets."""

from pathlib import Path

from cardiocohort.diffusion.device import resolve_device
from cardiocohort.evaluation import sampling
from cardiocohort.evaluation.ellipsoid_benchmark import grid as ellipsoid_grid
from cardiocohort.generation.anatomies import GROUP
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.runtime import artifacts, batch_runner, script, tables


def main(snakemake):
    i, p, out = snakemake.input, snakemake.params, Path(snakemake.output.table)
    device = resolve_device(p.device)
    points = ellipsoid_grid.places(p.points, p.reach)
    wanted = ellipsoid_grid.targets(points)
    inputs = artifacts.digest(
        [p.library, artifacts.sha256(i.weights), artifacts.sha256(i.rules), p.guidance, device]
    )
    settings = GuidanceSettings.from_config(p.guidance)
    records = batch_runner.run_batch(
        out.parent / "known",
        ellipsoid_grid.tasks(points, wanted, p.seed, inputs),
        sampling.work,
        snakemake.threads if device == "cpu" else 1,
        initializer=sampling.open_sampler,
        initargs=(str(Path(i.bundle).parent), i.rules, settings, device),
        group=GROUP[device],
    )
    tables.write_table(out, ellipsoid_grid.table(points, records, wanted), ellipsoid_grid.COLUMNS)


if __name__ == "__main__":
    script.run(main, snakemake)
