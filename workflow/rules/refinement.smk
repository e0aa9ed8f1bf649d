# How much depends on the mesh? `snakemake refinement_study` meshes the same hearts at every edge length of the
# config key `refinement.edge_lengths_mm` and, where `refinement.simulate` says so, inflates them all.
# in  <cohort>/anatomies/<batch>.parquet and the label maps behind it, <cohort>/topology/<batch>.tsv
# out <cohort>/refinement/<edge>mm/meshes/<batch>.tsv, .../simulations/<batch>.tsv: as the stages' own
#     <cohort>/refinement/study.tsv, study.png: one row per heart and edge length; figures against their number of tets


if requested("refinement_study"):
    with plain_errors():
        check_refinement(SETTINGS)
        check_arms(
            SETTINGS, plan.arms_of(BATCHES), SETTINGS["refinement"]["edge_lengths_mm"]
        )

REFINED_FOLDERS = [
    f"<cohort>/refinement/{mm:g}mm" for mm in SETTINGS["refinement"]["edge_lengths_mm"]
]


localrules:
    refinement_study,
    summarise_refinement,


wildcard_constraints:
    edge=r"[0-9]+(\.[0-9]+)?",


use rule build_meshes as mesh_refined with:
    output:
        table="<cohort>/refinement/{edge}mm/meshes/{batch}.tsv",
    log:
        "<cohort>/logs/refinement/{edge}mm/meshing/{batch}.log",
    benchmark:
        "<cohort>/benchmarks/refinement/{edge}mm/meshing/{batch}.tsv"
    params:
        meshing=lambda wildcards: with_edges(
            of_arm("meshing")(wildcards), float(wildcards.edge)
        ),
    message:
        "Meshing the hearts of {wildcards.batch} at {wildcards.edge} mm"


use rule simulate_hearts as simulate_refined with:
    input:
        meshes=lambda wildcards: plan.stage_tables(
            "meshes",
            simulation_batches()[wildcards.batch]["meshes"],
            [f"<cohort>/refinement/{wildcards.edge}mm"],
        ),
        people=lambda wildcards: people_of(
            simulation_batches()[wildcards.batch]["meshes"]
        ),
        # that of the cohort's own meshes, so that runs differ in the mesh alone
        calibration=calibration_of,
    output:
        table="<cohort>/refinement/{edge}mm/simulations/{batch}.tsv",
    log:
        "<cohort>/logs/refinement/{edge}mm/simulations/{batch}.log",
    benchmark:
        "<cohort>/benchmarks/refinement/{edge}mm/simulations/{batch}.tsv"
    message:
        "Simulating the hearts of {wildcards.batch} at {wildcards.edge} mm"


rule refinement_study:
    input:
        "<cohort>/refinement/study.tsv",


rule summarise_refinement:
    input:
        meshes=plan.stage_tables("meshes", BATCHES, REFINED_FOLDERS),
        simulations=lambda wildcards: plan.stage_tables(
            "simulations",
            simulation_batches(),
            REFINED_FOLDERS if SETTINGS["refinement"]["simulate"] else [],
        ),
    output:
        table="<cohort>/refinement/study.tsv",
        figure=report(
            "<cohort>/refinement/study.png",
            category="Figures",
            labels={"figure": "refinement of the meshes"},
        ),
    log:
        "<cohort>/logs/refinement/study.log",
    conda:
        "../../envs/report.yaml"
    params:
        library=library("summarise_refinement.py"),
    message:
        "Telling what the refinement of the meshes changed"
    script:
        "../scripts/summarise_refinement.py"
