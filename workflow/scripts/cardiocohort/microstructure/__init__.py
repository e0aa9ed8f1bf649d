"""Fibres, coordinates and segments on a biventricular mesh. Owned by the meshing stage."""
