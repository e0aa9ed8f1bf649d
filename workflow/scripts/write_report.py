"""Rule write_report: the page of the cohort, and its figures as files."""

import json
from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy, read_card
from cardiocohort.cohort.table import Arm
from cardiocohort.plotting import pages
from cardiocohort.report import charts, gallery, page
from cardiocohort.report.cohort_tables import read_cohort_tables, requests
from cardiocohort.report.function_section import function_of, read_runs
from cardiocohort.report.manifest import COLUMNS
from cardiocohort.report.pairs_section import pairs_of
from cardiocohort.report.reference_values import read_reference_values
from cardiocohort.report.summary import summarise
from cardiocohort.report.trial_section import read_trial
from cardiocohort.runtime import artifacts, script, tables


def main(snakemake):
    i, o, p = snakemake.input, snakemake.output, snakemake.params
    found = read_cohort_tables(i.get("targets", []), i.anatomies, i.topology, i.meshes, i.inputs)
    manifest = tables.read_table(i.manifest, COLUMNS)
    anatomy, _ = read_anatomy(i.anatomy)
    arms = [Arm.from_dict(arm) for arm in p.arms]
    summary = summarise(found, manifest, read_reference_values(i.reference_values), arms, anatomy)
    drawn = charts.all_charts(summary, found.targets, anatomy)
    chosen = gallery.chosen(manifest)
    runs = read_runs(i.get("simulations", []), manifest)
    shown = gallery.portray(chosen, Path(i.manifest).parent, found, manifest, anatomy, runs)
    made = {
        "bundle": {"name": None, "weights_sha256": None, **read_card(i.bundle)},
        "config": p.config,
        "provenance": json.loads(Path(i.provenance).read_text(encoding="utf-8")),
        "seeds": sorted(manifest["seed"].dropna().unique()),
    }
    pictures = {name: pages.png(chart) for name, chart in drawn.items()}
    pictures["gallery"] = page.jpeg(gallery.contact_sheet(shown.portraits))
    for name, content in pictures.items():
        with artifacts.atomic_path(o[name]) as path:
            path.write_bytes(content)
    library = Path(i.viewer).read_text(encoding="utf-8")
    sections = {
        "requests": requests(i.get("cohort_table")),
        "trial": read_trial(i.get("trial", [])),
        "function": function_of(runs, manifest, i.get("calibrations", [])),
        "pairs": pairs_of(found, manifest, arms, i.get("comparisons", [])),
    }
    content = page.html(p.config["cohort"], summary, drawn, shown, anatomy, made, library, **sections)
    artifacts.write_text(o.page, content)


if __name__ == "__main__":
    script.run(main, snakemake)
