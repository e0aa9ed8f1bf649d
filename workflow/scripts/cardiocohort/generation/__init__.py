"""Guided generation of label maps: EDM sampler, moment guidance, attempts (generation stage)."""
