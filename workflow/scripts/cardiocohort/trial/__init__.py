"""The statistics of a trial: endpoints, contrasts of arms, power, missing hearts."""
