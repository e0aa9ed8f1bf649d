# Report: who came out of the trial and how well, for people; and how it was made.
# in  the tables of all stages and batches; of trial, simulations and comparisons what there is
# out <cohort>/manifest.tsv, <cohort>/subjects.tsv (.parquet, .schema.json), <cohort>/report/,
#     <cohort>/config.resolved.yaml, <cohort>/cohort.tsv (the cohort table, as it was), <cohort>/provenance.json,
#     <cohort>/ro-crate-metadata.json


# label maps of the user's own need no cohort table, and have no targets to compare with
COHORT_TABLE = {"cohort_table": ancient(located("cohort_table"))} if WITH_TABLE else {}
COHORT_TABLE_COPY = {"cohort_table": "<cohort>/cohort.tsv"} if WITH_TABLE else {}
STAGE_TABLES = {
    "targets": tables("targets", "parquet") if WITH_TABLE else [],
    "anatomies": tables("anatomies", "parquet"),
    "topology": tables("topology", "tsv"),
    "meshes": tables("meshes", "tsv"),
    "inputs": tables("inputs", "tsv"),
}
REPORT_CHARTS = ["acceptance", "distributions", "wall_thickness"]
if WITH_TABLE:
    REPORT_CHARTS += ["targets_and_achieved", "requested_and_accepted"]
# `snakemake --report` shows them too
REPORT_FIGURES = {
    name: report(
        f"<cohort>/report/{name}.{suffix}",
        category="Figures",
        labels={"figure": name.replace("_", " ")},
    )
    for name, suffix in (
        dict.fromkeys(REPORT_CHARTS, "png") | {"gallery": "jpg"}
    ).items()
}
VIEWER_LIBRARY = str(REPOSITORY / "resources/viewer/three.min.js")
PAGE_PARTS = [
    path
    for pattern in ("cohort*.j2", "viewer.js")
    for path in sorted((WORKFLOW / "scripts/cardiocohort/report").glob(pattern))
]
ENVIRONMENTS = sorted(map(str, (REPOSITORY / "envs").glob("*.yaml")))


localrules:
    write_config,
    write_manifest,
    write_provenance,


rule write_config:
    input:
        **COHORT_TABLE,
    output:
        **COHORT_TABLE_COPY,
        config="<cohort>/config.resolved.yaml",
    log:
        "<cohort>/logs/report/config.log",
    conda:
        "../../envs/report.yaml"
    params:
        settings=SETTINGS,
        cohort_table_sha256=(
            artifacts.sha256(located("cohort_table")) if WITH_TABLE else None
        ),
        library=library("write_config.py"),
    message:
        "Writing the config with its defaults"
    script:
        "../scripts/write_config.py"


rule write_manifest:
    input:
        **STAGE_TABLES,
    output:
        table="<cohort>/manifest.tsv",
    log:
        "<cohort>/logs/report/manifest.log",
    conda:
        "../../envs/report.yaml"
    params:
        seeds={name: b["seed"] for name, b in BATCHES.items() if "seed" in b},
        arms=SETTINGS["arms"],
        library=library("write_manifest.py"),
    message:
        "Writing the manifest"
    script:
        "../scripts/write_manifest.py"


rule write_subjects:
    input:
        **OWN_COVARIATES,
        simulations=simulated_tables,
        # of the stage tables, which it is made of and which this rule reads too: thousands of inputs less
        manifest="<cohort>/manifest.tsv",
        bundle=ancient(BUNDLE),
    output:
        table="<cohort>/subjects.tsv",
        parquet="<cohort>/subjects.parquet",
        dictionary="<cohort>/subjects.schema.json",
    log:
        "<cohort>/logs/report/subjects.log",
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=240,
    params:
        batches=list(BATCHES),
        stages=[stage for stage, paths in STAGE_TABLES.items() if paths],
        arms=list(plan.arms_of(BATCHES).values()),
        anatomy=ANATOMY_DIGEST,
        covariates_sha256=COVARIATES_SHA256,
        library=library("write_subjects.py"),
    message:
        "Writing the table of subjects"
    script:
        "../scripts/write_subjects.py"


rule write_report:
    input:
        **STAGE_TABLES,
        **COHORT_TABLE_COPY,
        manifest="<cohort>/manifest.tsv",
        reference_values=ancient(REFERENCE_VALUES),
        anatomy=ancient(ANATOMY_FILE),
        bundle=ancient(BUNDLE),
        trial=trial_results,
        simulations=simulated_tables,
        calibrations=calibrated,
        comparisons=compared_results,
        provenance="<cohort>/provenance.json",
        viewer=ancient(VIEWER_LIBRARY),
    output:
        **REPORT_FIGURES,
        page=report(
            "<cohort>/report/cohort.html", category="Cohort", labels={"page": "report"}
        ),
    log:
        "<cohort>/logs/report/report.log",
    benchmark:
        "<cohort>/benchmarks/report.tsv"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=60,
    params:
        config=SETTINGS,
        arms=list(plan.arms_of(BATCHES).values()),
        reference_values_sha256=artifacts.sha256(REFERENCE_VALUES),
        page_parts=[artifacts.sha256(path) for path in PAGE_PARTS],
        viewer_sha256=artifacts.sha256(VIEWER_LIBRARY),
        anatomy=ANATOMY_SHA256,
        card_sha256=artifacts.sha256(BUNDLE),
        library=library("write_report.py"),
    message:
        "Writing the report"
    script:
        "../scripts/write_report.py"


rule write_provenance:
    input:
        **COHORT_TABLE_COPY,
        manifest="<cohort>/manifest.tsv",
        subjects="<cohort>/subjects.tsv",
        config="<cohort>/config.resolved.yaml",
        bundle=ancient(BUNDLE),
        environments=ancient(ENVIRONMENTS),
    output:
        provenance="<cohort>/provenance.json",
        crate="<cohort>/ro-crate-metadata.json",
    log:
        "<cohort>/logs/report/provenance.log",
    conda:
        "../../envs/report.yaml"
    params:
        batches=list(BATCHES),
        stages=[stage for stage, paths in STAGE_TABLES.items() if paths],
        weights_sha256=WEIGHTS_SHA256,
        reference_sha256=REFERENCE_SHA256,
        rules_sha256=RULES_SHA256,
        targets_sha256=TARGETS_SHA256,
        parts_sha256=PARTS_SHA256,
        bases_sha256={
            batch["arm"]["base"]: batch["base_sha256"]
            for batch in BATCHES.values()
            if batch.get("base_sha256")
        },
        card_sha256=artifacts.sha256(BUNDLE),
        environments_sha256=[artifacts.sha256(path) for path in ENVIRONMENTS],
        library=library("write_provenance.py"),
    message:
        "Recording the provenance"
    script:
        "../scripts/write_provenance.py"
