"""Rule measure_whole_hearts: real hearts that the prior has not seen, each asked for by its own moments."""

from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy, read_card
from cardiocohort.diffusion.bundle import check_weights
from cardiocohort.diffusion.device import resolve_device
from cardiocohort.evaluation import real_hearts, whole_hearts
from cardiocohort.label_maps import reading
from cardiocohort.runtime import artifacts, batch_runner, script


def main(snakemake):
    i, p, out = snakemake.input, snakemake.params, Path(snakemake.output.samples)
    bundle, device = Path(i.bundle).parent, resolve_device(p.device)
    check_weights(bundle, read_card(i.bundle))
    anatomy, _ = read_anatomy(i.bundle)
    convention = reading.open_convention(i.convention, anatomy, p.nifti_geometry)
    training, methods = {}, [whole_hearts.GUIDED, whole_hearts.AUTOENCODER]
    if i.atlas:
        methods.append(whole_hearts.ATLAS)
    if i.training:
        listed = real_hearts.training_hearts(i.training, "evaluation.whole_hearts.training")
        training = {name: str(artifacts.check_file(*file)) for name, file in listed.items()}
        methods.append(whole_hearts.NEAREST)
    made_of = [p.library, p.weights_sha256, p.rules_sha256, p.guidance, p.attempts, p.others_sha256, device]
    made_of += [p.convention_sha256, p.nifti_geometry]
    hearts = dict(zip(p.subjects, i.label_maps, strict=True))
    tasks = whole_hearts.tasks(hearts, p.seeds, methods, artifacts.digest(made_of))
    records = batch_runner.run_batch(
        out.parent / "hearts", tasks, whole_hearts.work, snakemake.threads if device == "cpu" else 1,
        whole_hearts.open_all,
        (str(bundle), i.rules, p.guidance, p.attempts, device, convention, i.atlas or None, training),
    )  # fmt: skip
    samples = whole_hearts.table(records, tasks, anatomy)
    for path, table in ((out, samples), (snakemake.output.summary, whole_hearts.summary(samples, anatomy))):
        with artifacts.atomic_path(path) as temporary:
            table.to_csv(temporary, sep="\t", index=False, float_format="%.4f")


if __name__ == "__main__":
    script.run(main, snakemake)
