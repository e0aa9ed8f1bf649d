# Topology: the gatekeeper. A rejected subject is a row with reasons, not a failed job.
# in  <cohort>/anatomies/<batch>.parquet and the label maps behind it, the table of anatomical rules
# out <cohort>/topology/<batch>.tsv: verdict, reasons and every measured quantity


rule check_topology:
    input:
        anatomies="<cohort>/anatomies/{batch}.parquet",
        rules=ancient(RULES),
        bundle=ancient(BUNDLE),
    output:
        table="<cohort>/topology/{batch}.tsv",
    log:
        "<cohort>/logs/topology/{batch}.log",
    conda:
        "../../envs/topology.yaml"
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=60,
    params:
        rules_sha256=RULES_SHA256,
        anatomy=ANATOMY_DIGEST,
        library=library("check_topology.py"),
    message:
        "Checking the topology of {wildcards.batch}"
    script:
        "../scripts/check_topology.py"
