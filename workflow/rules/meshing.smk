# Meshing and microstructure: tagged biventricular tetrahedra with fibres, in one job, since
# both are in one file.
# in  <cohort>/anatomies/<batch>.parquet and the label maps behind it, <cohort>/topology/<batch>.tsv
# out <cohort>/meshes/<batch>.tsv: quality; meshes and surfaces in <cohort>/meshes/<batch>/


rule build_meshes:
    input:
        anatomies="<cohort>/anatomies/{batch}.parquet",
        topology="<cohort>/topology/{batch}.tsv",
        bundle=ancient(BUNDLE),
    output:
        table="<cohort>/meshes/{batch}.tsv",
    log:
        "<cohort>/logs/meshing/{batch}.log",
    benchmark:
        "<cohort>/benchmarks/meshing/{batch}.tsv"
    conda:
        "../../envs/meshing.yaml"
    threads: SETTINGS["threads"]["meshing"]
    resources:
        mem_mb=more_each_attempt(1000 + 3000 * SETTINGS["threads"]["meshing"]),
        runtime=240,
    params:
        meshing=of_arm("meshing"),
        microstructure=of_arm("microstructure"),
        anatomy=ANATOMY_DIGEST,
        library=library("build_meshes.py"),
    message:
        "Meshing the hearts of {wildcards.batch}"
    script:
        "../scripts/build_meshes.py"
