# Inputs: decks that cardiac solvers load.
# in  <cohort>/meshes/<batch>.tsv and the meshes behind it
# out <cohort>/inputs/<batch>.tsv: every file; decks in <cohort>/inputs/<batch>/<subject>/<format>/


rule write_inputs:
    input:
        meshes="<cohort>/meshes/{batch}.tsv",
    output:
        table="<cohort>/inputs/{batch}.tsv",
    log:
        "<cohort>/logs/inputs/{batch}.log",
    benchmark:
        "<cohort>/benchmarks/inputs/{batch}.tsv"
    conda:
        "../../envs/inputs.yaml"
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=60,
    params:
        formats=SETTINGS["formats"],
        domain=SETTINGS["meshing"]["domain"],
        mechanics=of_arm("mechanics"),
        library=library("write_inputs.py"),
    message:
        "Writing the solver inputs of {wildcards.batch}"
    script:
        "../scripts/write_inputs.py"
