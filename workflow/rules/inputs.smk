# Inputs: decks that cardiac solvers load.
# in  <cohort>/meshes/<batch>.tsv and the meshes behind it; where decks follow the simulations, these too
# out <cohort>/inputs/<batch>.tsv: every file; decks in <cohort>/inputs/<batch>/<subject>/<format>/


rule write_inputs:
    input:
        unpack(followed_by_decks),
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
        decks=SETTINGS["decks"],
        simulation=simulation_of_decks,
        library=library("write_inputs.py"),
    message:
        "Writing the solver inputs of {wildcards.batch}"
    script:
        "../scripts/write_inputs.py"
