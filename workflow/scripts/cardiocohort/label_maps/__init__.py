"""From a user's segmented scans to label maps in the convention. Owned by the segmentations stage.

A case is a folder of mask or label files; what is accepted, and why the rest is not, stands in
docs/own-data.md. Light on purpose: the Snakefile imports `cases`.
"""
