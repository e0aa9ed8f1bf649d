"""Numbers and names of the segments of both ventricles, for tables and figures. Owned by no stage.

1 to 17: Cerqueira et al., "Standardized myocardial segmentation and nomenclature for tomographic imaging of
the heart", Circulation 2002. 18 to 26: the RV's free wall in three sectors at three levels, as in Ann Biomed
Eng 26:756 (1998); no standard numbers them, so the numbers are ours. What belongs to a segment stands in
`microstructure.segments`.
"""

LEFT = {
    1: "basal anterior", 2: "basal anteroseptal", 3: "basal inferoseptal",
    4: "basal inferior", 5: "basal inferolateral", 6: "basal anterolateral",
    7: "mid anterior", 8: "mid anteroseptal", 9: "mid inferoseptal",
    10: "mid inferior", 11: "mid inferolateral", 12: "mid anterolateral",
    13: "apical anterior", 14: "apical septal", 15: "apical inferior", 16: "apical lateral",
    17: "apex",
}  # fmt: skip
RIGHT = {
    18: "RV basal anterior", 19: "RV basal lateral", 20: "RV basal inferior",
    21: "RV mid anterior", 22: "RV mid lateral", 23: "RV mid inferior",
    24: "RV apical anterior", 25: "RV apical lateral", 26: "RV apical inferior",
}  # fmt: skip
SEGMENTS = LEFT | RIGHT

# columns of the mesh table with the mean wall thickness of each
WALL_COLUMNS = {number: f"wall_mm_aha_{number:02d}" for number in SEGMENTS}
