# Population: what every virtual patient's heart should be.
# in  the arm's row of the cohort table (params), the reference table or explicit targets, of siblings the
#     targets and anatomies of their base's batch, or a label map file; of arms that name parts
#     `structure@domain` the table that `snakemake reference_parts` makes
# out <cohort>/targets/<batch>.parquet: moments of every subject and structure, with plausibility


with plain_errors():
    ARMS_WITH_PARTS = target_arms.arms_with_parts(plan.arms_of(BATCHES).values())


rule draw_targets:
    input:
        unpack(base_of("targets", "anatomies")),
        unpack(parts_table_of),
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
        parts_sha256=lambda wildcards: (
            PARTS_SHA256 if parts_table_of(wildcards) else None
        ),
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


# Only where it is requested: a cohort takes the table as it is, and makes no hearts for it.
PARTS_PRIOR = f"results/prior/{SETTINGS['prior']['name']}"
PARTS_OF_POPULATION = f"{PARTS_PRIOR}/reference_parts.parquet"

if requested("reference_parts") or requested(PARTS_OF_POPULATION):

    localrules:
        reference_parts,

    with plain_errors():
        if workflow.is_main_process and not ARMS_WITH_PARTS:
            raise InputError(
                f"{located('cohort_table')}: no arm names a part `structure@domain`, so that there is none "
                "to measure"
            )
        MEASURED_PARTS, MEASURED_WALLS = target_arms.wanted_parts(
            ARMS_WITH_PARTS.values()
        )

    rule reference_parts:
        input:
            PARTS_OF_POPULATION,

    rule measure_reference_parts:
        input:
            anatomy=ancient(BUNDLE),
            hearts=f"{PARTS_PRIOR}/population/hearts.tsv",
        output:
            table=PARTS_OF_POPULATION,
        log:
            f"{PARTS_PRIOR}/logs/reference_parts.log",
        conda:
            "../../envs/population.yaml"
        threads: 2
        resources:
            mem_mb=lambda wildcards, threads, attempt: 1000 * threads * attempt,
            runtime=240,
        params:
            parts=MEASURED_PARTS,
            walls=MEASURED_WALLS,
            domains=lambda wildcards: {
                name: domain
                for arm in ARMS_WITH_PARTS
                for name, domain in plan.arms_of(BATCHES)[arm]["domains"].items()
            },
            anatomy=ANATOMY_DIGEST,
            library=library("measure_reference_parts.py"),
        message:
            "Measuring parts in the hearts of the prior's population"
        script:
            "../scripts/measure_reference_parts.py"
