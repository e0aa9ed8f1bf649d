"""The floor that prior and generation share: EDM, sampler, networks, bundle, device."""
