"""A prior of ellipsoid hearts whose moments are known exactly, and a grid of targets for it."""
