# Population: what every virtual patient's heart should be.
# in  the arm's row of the cohort table (params), the reference table or explicit targets, of siblings the
#     targets and anatomies of their base's batch, or a label map file
# out <cohort>/targets/<batch>.parquet: moments of every subject and structure, with plausibility


rule draw_targets:
    input:
        unpack(base_of("targets", "anatomies")),
        **({"targets_table": ancient(TARGETS_TABLE)} if TARGETS_TABLE else {}),
        **OWN_COVARIATES,
        reference=ancient(REFERENCE),
        usual=ancient(BUNDLE_MOMENTS),
        bundle=ancient(BUNDLE),
    output:
        table="<cohort>/targets/{batch}.parquet",
    log:
        "<cohort>/logs/population/{batch}.log",
    conda:
        "../../envs/population.yaml"
    resources:
        mem_mb=more_each_attempt(1000),
        runtime=30,
    params:
        arm=of_batch("arm"),
        base_sha256=of_batch("base_sha256"),
        base_reading=reading_of_base,
        first=of_batch("first"),
        last=of_batch("last"),
        seed=of_batch("seed"),
        truncation=SETTINGS["truncation"],
        reference_sha256=REFERENCE_SHA256,
        usual_sha256=BUNDLE_MOMENTS_SHA256,
        targets_sha256=TARGETS_SHA256,
        covariates_sha256=COVARIATES_SHA256,
        anatomy=ANATOMY_DIGEST,
        library=library("draw_targets.py"),
    message:
        "Drawing the targets of {wildcards.batch}"
    script:
        "../scripts/draw_targets.py"


localrules:
    describe_population,


rule describe_population:
    input:
        **OWN_COVARIATES,
        reference=ancient(REFERENCE),
    output:
        table="<cohort>/population.tsv",
    log:
        "<cohort>/logs/population.log",
    conda:
        "../../envs/population.yaml"
    params:
        reference_sha256=REFERENCE_SHA256,
        covariates_sha256=COVARIATES_SHA256,
        library=library("describe_population.py"),
    message:
        "Describing the reference population"
    script:
        "../scripts/describe_population.py"
