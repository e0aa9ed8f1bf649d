# In place of population and generation: label maps of the user's own (config key `label_maps`).
# in  the label maps of the batch
# out <cohort>/anatomies/<batch>.parquet: their moments; canonical copies in <cohort>/anatomies/<batch>/

for target in ("describe_population", "reference_parts"):
    if requested(target):
        raise InputError(
            f"target {target!r}: hearts of `label_maps` are drawn from no population; leave out the config key "
            "`label_maps`"
        )


rule import_anatomies:
    input:
        label_maps=lambda wildcards: ancient(
            list(batch_of(wildcards)["label_maps"].values())
        ),
        rules=ancient(RULES),
        convention=ancient(CONVENTION),
        bundle=ancient(BUNDLE),
    output:
        table="<cohort>/anatomies/{batch}.parquet",
    log:
        "<cohort>/logs/import/{batch}.log",
    conda:
        "../../envs/topology.yaml"
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=30,
    params:
        subjects=lambda wildcards: list(batch_of(wildcards)["label_maps"]),
        label_maps_sha256=lambda wildcards: content_of(
            batch_of(wildcards)["label_maps"].values()
        ),
        arm=SETTINGS["cohort"],
        anatomy=ANATOMY_DIGEST,
        rules_sha256=RULES_SHA256,
        convention_sha256=CONVENTION_SHA256,
        nifti_geometry=SETTINGS["nifti_geometry"],
        library=library("import_anatomies.py"),
    message:
        "Importing the label maps of {wildcards.batch}"
    script:
        "../scripts/import_anatomies.py"
