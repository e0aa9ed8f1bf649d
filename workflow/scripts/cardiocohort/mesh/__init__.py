"""The biventricular mesh that meshing makes and every later stage reads."""
