# Generation: anatomies that meet the targets, by guided diffusion.
# in  <cohort>/targets/<batch>.parquet, the bundle, the topology rules (which decide about another attempt),
#     of siblings the anatomies and verdicts of their base's batch, or a label map file
# out <cohort>/anatomies/<batch>.parquet: achieved moments; label maps in <cohort>/anatomies/<batch>/


rule generate_anatomies:
    input:
        unpack(base_of("anatomies", "topology")),
        targets="<cohort>/targets/{batch}.parquet",
        bundle=ancient(BUNDLE),
        weights=ancient(WEIGHTS),
        moments=ancient(BUNDLE_MOMENTS),
        rules=ancient(RULES),
    output:
        table="<cohort>/anatomies/{batch}.parquet",
    log:
        "<cohort>/logs/generation/{batch}.log",
    benchmark:
        "<cohort>/benchmarks/generation/{batch}.tsv"
    conda:
        SAMPLING_ENV
    threads: SETTINGS["threads"]["generation"]
    resources:
        gpu=int(WITH_GPU),
        mem_mb=more_each_attempt(2000 + 1500 * SETTINGS["threads"]["generation"]),
        runtime=240,
    params:
        arm=of_batch("arm"),
        base_sha256=of_batch("base_sha256"),
        base_reading=reading_of_base,
        seed=of_batch("seed"),
        guidance=SETTINGS["guidance"],
        max_attempts=SETTINGS["max_attempts"],
        device=SETTINGS["device"],
        bundle_sha256=WEIGHTS_SHA256,
        moments_sha256=BUNDLE_MOMENTS_SHA256,
        anatomy=ANATOMY_DIGEST,
        rules_sha256=RULES_SHA256,
        library=library("generate_anatomies.py"),
    message:
        "Generating the anatomies of {wildcards.batch}"
    script:
        "../scripts/generate_anatomies.py"
