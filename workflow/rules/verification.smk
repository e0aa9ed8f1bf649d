# Can the cohort be made again? `snakemake verify` recomputes one subject a batch with the stages' own rules,
# checks every stored file against its table, and fails, naming what is not identical.
# in  the tables of all stages and batches, and the files behind them
# out <cohort>/verification/<batch>.tsv: verdicts; what was recomputed, in <cohort>/verification/<stage>/


VERIFIED_INDEX = of_verified(plan.verified_index)
VERIFIED_SUBJECT = of_verified(plan.verified_subject)
VERIFIED_STAGES = {
    **({"targets": "parquet"} if WITH_TABLE else {}),
    "anatomies": "parquet",
    "topology": "tsv",
    "meshes": "tsv",
    "inputs": "tsv",
}


localrules:
    verify,


rule verify:
    input:
        expand("<cohort>/verification/{batch}.tsv", batch=BATCHES),
    log:
        "<cohort>/logs/verification.log",
    conda:
        "../../envs/report.yaml"
    params:
        library=library("report_verification.py"),
    message:
        "Telling what the verification found"
    script:
        "../scripts/report_verification.py"


if SETTINGS["label_maps"]:

    use rule import_anatomies as import_again with:
        input:
            label_maps=lambda wildcards: ancient(
                [batch_of(wildcards)["label_maps"][VERIFIED_SUBJECT(wildcards)]]
            ),
            rules=ancient(RULES),
            convention=ancient(CONVENTION),
            bundle=ancient(BUNDLE),
        output:
            table="<cohort>/verification/anatomies/{batch}.parquet",
        log:
            "<cohort>/logs/verification/import/{batch}.log",
        params:
            subjects=lambda wildcards: [VERIFIED_SUBJECT(wildcards)],

else:

    use rule draw_targets as draw_again with:
        output:
            table="<cohort>/verification/targets/{batch}.parquet",
        log:
            "<cohort>/logs/verification/population/{batch}.log",
        params:
            first=VERIFIED_INDEX,
            last=VERIFIED_INDEX,

    use rule generate_anatomies as generate_again with:
        input:
            # of the base what is stored: it is verified itself, and only one subject of it is made again
            unpack(base_of("anatomies", "topology")),
            targets="<cohort>/verification/targets/{batch}.parquet",
            bundle=ancient(BUNDLE),
            weights=ancient(WEIGHTS),
            moments=ancient(BUNDLE_MOMENTS),
            rules=ancient(RULES),
        output:
            table="<cohort>/verification/anatomies/{batch}.parquet",
        log:
            "<cohort>/logs/verification/generation/{batch}.log",
        benchmark:
            "<cohort>/benchmarks/verification/generation/{batch}.tsv"


use rule check_topology as check_again with:
    input:
        anatomies="<cohort>/verification/anatomies/{batch}.parquet",
        rules=ancient(RULES),
        bundle=ancient(BUNDLE),
    output:
        table="<cohort>/verification/topology/{batch}.tsv",
    log:
        "<cohort>/logs/verification/topology/{batch}.log",


use rule build_meshes as mesh_again with:
    input:
        anatomies="<cohort>/verification/anatomies/{batch}.parquet",
        topology="<cohort>/verification/topology/{batch}.tsv",
        bundle=ancient(BUNDLE),
    output:
        table="<cohort>/verification/meshes/{batch}.tsv",
    log:
        "<cohort>/logs/verification/meshing/{batch}.log",
    benchmark:
        "<cohort>/benchmarks/verification/meshing/{batch}.tsv"


use rule write_inputs as write_inputs_again with:
    input:
        unpack(followed_by_decks),
        meshes="<cohort>/verification/meshes/{batch}.tsv",
    output:
        table="<cohort>/verification/inputs/{batch}.tsv",
    log:
        "<cohort>/logs/verification/inputs/{batch}.log",
    benchmark:
        "<cohort>/benchmarks/verification/inputs/{batch}.tsv"


rule compare_batch:
    input:
        **{
            stage: f"<cohort>/{stage}/{{batch}}.{suffix}"
            for stage, suffix in VERIFIED_STAGES.items()
        },
        **{
            f"{stage}_again": f"<cohort>/verification/{stage}/{{batch}}.{suffix}"
            for stage, suffix in VERIFIED_STAGES.items()
        },
    output:
        table="<cohort>/verification/{batch}.tsv",
    log:
        "<cohort>/logs/verification/{batch}.log",
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=more_each_attempt(1000),
        runtime=60,
    params:
        subject=VERIFIED_SUBJECT,
        library=library("compare_batch.py"),
    message:
        "Comparing {wildcards.batch} with its recomputed subject"
    script:
        "../scripts/compare_batch.py"
