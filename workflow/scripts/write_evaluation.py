"""Rule write_evaluation: the evaluation's charts and its page."""

import pandas as pd

from cardiocohort.anatomy.bundle_metadata import read_anatomy, read_card
from cardiocohort.evaluation import acceptance_criteria, coupling, fidelity, figures, page, summary
from cardiocohort.evaluation.arms import ABLATION, UNGUIDED
from cardiocohort.evaluation.samples import read_arms, read_hearts
from cardiocohort.runtime import artifacts, script

TABLES = ("realism", "fidelity", "coupling", "topology", "extremes")


def main(snakemake):
    i, o, p = snakemake.input, snakemake.output, snakemake.params
    names = [name for name in (*TABLES, "known") if name in i.keys()]  # noqa: SIM118 - not a dict
    found = {name: pd.read_csv(i[name], sep="\t", keep_default_na=False, na_values=[""]) for name in names}
    for name in ("extremes", "known"):
        if name in found:
            # a column without any text was read as numbers
            text = found[name][["ended", "gate"]].astype(object).fillna("")
            found[name] = found[name].assign(**text)
    anatomy, _ = read_anatomy(i.bundle)
    smallest = sorted(map(tuple, p.constrained), key=len)[0]
    k, arms = len(smallest), read_arms(i.samples, p.arms)
    shown = {"none": UNGUIDED} | {a: f"polyak_{k}_{a}" for a in ABLATION} | {"all": f"polyak_{k}"}
    scaled = coupling.scale(arms, read_hearts(i.hearts), anatomy.label(smallest[0]) - 1)
    charts = {
        "realism": figures.realism(found["realism"]),
        "control": figures.control(found["fidelity"]),
        "ablation": figures.ablation(found["fidelity"], k),
        "coupling": figures.coupling(found["coupling"]),
        "pairs": figures.pairs(scaled, shown),
        "topology": figures.topology(found["topology"]),
        "extremes": figures.extremes(found["extremes"]),
    }
    if "known" in found:
        charts["known"] = figures.known(found["known"])
    for name, chart in charts.items():
        with artifacts.atomic_path(o[name]) as path:
            path.write_bytes(page.png(chart))
    apart = {name: pd.read_csv(i[name], sep="\t") for name in ("variety", "whole_hearts") if i.get(name)}
    card = read_card(i.bundle)
    figures_of_card = acceptance_criteria.read_figures(p.card, card["weights_sha256"]) if p.card else None
    held = acceptance_criteria.criteria(found | apart, figures_of_card)
    artifacts.write_text(o.summary, summary.markdown(found, held))
    found["headline"] = fidelity.headline(found["fidelity"])
    artifacts.write_text(o.page, page.html(card, found, charts, held))


if __name__ == "__main__":
    script.run(main, snakemake)
