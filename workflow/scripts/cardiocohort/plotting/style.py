"""Matplotlib as the figures of the project use it: without a display, in one style. Owned by no stage."""

import matplotlib

matplotlib.use("Agg")  # before pyplot is imported

import matplotlib.pyplot as plt

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}

__all__ = ["STYLE", "plt"]
