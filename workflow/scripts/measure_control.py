"""Rule measure_control: errors of samples, coupling of attributes, verdicts of the gate, extreme targets."""

from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.evaluation import coupling, fidelity, gate_rates
from cardiocohort.evaluation.arms import ABLATION, EXTREMES
from cardiocohort.evaluation.samples import read_arms, read_hearts
from cardiocohort.population.reference import read_reference
from cardiocohort.runtime import script, tables


def main(snakemake):
    i, o, p = snakemake.input, snakemake.output, snakemake.params
    anatomy, _ = read_anatomy(i.bundle)
    arms, sets = read_arms(i.samples, p.arms), sorted(map(tuple, p.constrained), key=len)
    first = anatomy.label(sets[0][0]) - 1
    scaled = coupling.scale(arms, read_hearts(i.hearts), first)
    ablation = {a: f"polyak_{len(sets[0])}_{a}" for a in ABLATION}
    made = {
        "fidelity": (fidelity.table(arms, sets, p.resamples, p.seed), fidelity.COLUMNS),
        "coupling": (coupling.table(scaled, ablation, p.resamples, p.seed), coupling.COLUMNS),
        "topology": (gate_rates.topology(arms, p.resamples, p.seed), gate_rates.TOPOLOGY),
    }
    reference = read_reference(Path(i.bundle).parent / "reference_moments.parquet", anatomy)
    own = reference.moments[:, reference.structures.index(sets[0][0])]
    made["extremes"] = (gate_rates.extremes(arms.get(EXTREMES), own), gate_rates.EXTREMES)
    for name, (frame, columns) in made.items():
        tables.write_table(o[name], frame, columns)


if __name__ == "__main__":
    script.run(main, snakemake)
