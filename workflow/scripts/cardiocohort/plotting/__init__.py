"""Colours, pages and surfaces as pictures."""
