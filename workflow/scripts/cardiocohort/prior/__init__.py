"""The generative prior: reference population, autoencoder, denoiser, bundle (prior stage)."""
