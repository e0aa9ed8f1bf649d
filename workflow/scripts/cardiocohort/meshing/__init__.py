"""Label map -> closed, tagged, tetrahedral biventricular mesh with its quality. Owned by meshing.

`build.build` is the way in, `model.BiventricularModel` what comes out, `storage` its form on disk.
"""
