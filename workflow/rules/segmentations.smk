# Label maps from a data set of segmented scans (target `label_maps`, docs/own-data.md).
# in  the masks and label files of every case, or its tagged mesh, a folder each in the folder `segmentations.folder`
# out results/label_maps/<name>/: a label map (.nii.gz) per accepted case, cases.tsv with every case's verdict,
#     pictures/ of all cases, covariates.tsv (of the accepted cases, if a covariates table is given)


SEGMENTATIONS = SETTINGS["segmentations"]


pathvars:
    maps=f"results/label_maps/{SEGMENTATIONS['name']}",


localrules:
    label_maps,


# rules of the anatomy, each a table that may be left out but for the first two
SEGMENTATION_TABLES = {
    key: place(path, f"segmentations.{key}") or []
    for key, path in SEGMENTATIONS.items()
    if key in ("vessels", "covariates")
}
SEGMENTATION_TABLES |= {"anatomy": ANATOMY_FILE, "rules": RULES}
SEGMENTATION_TABLES["mesh_tags"] = (
    place(SEGMENTATIONS["mesh"]["tags"], "segmentations.mesh.tags")
    if SEGMENTATIONS["mesh"]["file"]
    else []
)


if requested("label_maps"):
    segmented_files()


rule label_maps:
    input:
        "<maps>/cases.tsv",


rule make_label_maps:
    input:
        **{key: ancient(path) for key, path in SEGMENTATION_TABLES.items()},
        **OWN_COVARIATES,
        convention=ancient(CONVENTION),
        sources=lambda wildcards: ancient(segmented_files()),
    output:
        **(
            {"covariates": "<maps>/covariates.tsv"}
            if SEGMENTATIONS["covariates"]
            else {}
        ),
        cases="<maps>/cases.tsv",
    log:
        f"results/label_maps/{SEGMENTATIONS['name']}.log",
    conda:
        "../../envs/topology.yaml"
    threads: SETTINGS["threads"]["segmentations"]
    resources:
        mem_mb=more_each_attempt(3000 * SETTINGS["threads"]["segmentations"]),
        runtime=600,
    params:
        folder=lambda wildcards: place(SEGMENTATIONS["folder"], "segmentations.folder"),
        sources_sha256=lambda wildcards: content_of(segmented_files()),
        sources=SEGMENTATIONS["sources"],
        mesh=SEGMENTATIONS["mesh"],
        whole_heart=SEGMENTATIONS["whole_heart"],
        tables_sha256={
            key: artifacts.sha256(path)
            for key, path in SEGMENTATION_TABLES.items()
            if path and key != "covariates"
        },
        convention_sha256=CONVENTION_SHA256,
        nifti_geometry=SETTINGS["nifti_geometry"],
        known_covariates_sha256=COVARIATES_SHA256,
        covariates_sha256=(
            artifacts.sha256(SEGMENTATION_TABLES["covariates"])
            if SEGMENTATIONS["covariates"]
            else None
        ),
        library=library("make_label_maps.py"),
    message:
        "Making label maps of the segmented scans"
    script:
        "../scripts/make_label_maps.py"
