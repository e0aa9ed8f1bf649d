"""Figures that report and evaluation share."""
