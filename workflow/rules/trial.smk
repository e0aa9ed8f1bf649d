# Trial, optional: `snakemake trial`, the endpoints of the config compared between the arms.
# in  <cohort>/subjects.tsv
# out <cohort>/trial/: tables baseline, contrasts, power, sample_sizes, missing, correlations (.tsv); figures
#     forest, distributions, power, correlations (.png). The report then has a section about them.

TRIAL_TABLES = {
    name: f"<cohort>/trial/{name}.tsv"
    for name in (
        "baseline",
        "contrasts",
        "power",
        "sample_sizes",
        "missing",
        "correlations",
    )
}
TRIAL_FIGURES = {
    f"{name}_figure": report(
        f"<cohort>/trial/{name}.png", category="Trial", labels={"figure": name}
    )
    for name in ("forest", "distributions", "power", "correlations")
}


localrules:
    trial,


rule trial:
    input:
        TRIAL_TABLES.values(),
        TRIAL_FIGURES.values(),
        "<cohort>/report/cohort.html",


rule analyse_trial:
    input:
        subjects="<cohort>/subjects.parquet",
        dictionary="<cohort>/subjects.schema.json",
    output:
        **TRIAL_TABLES,
        **TRIAL_FIGURES,
    log:
        "<cohort>/logs/trial/trial.log",
    benchmark:
        "<cohort>/benchmarks/trial.tsv"
    conda:
        "../../envs/trial.yaml"
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=60,
    params:
        endpoints=SETTINGS["endpoints"],
        reference=lambda wildcards: endpoints.reference_of(
            SETTINGS["endpoints"], plan.arms_of(BATCHES)
        ),
        library=library("analyse_trial.py"),
    message:
        "Comparing the arms of the trial"
    script:
        "../scripts/analyse_trial.py"
