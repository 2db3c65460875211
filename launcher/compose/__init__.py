"""Overrides and conf/ to typed configs: hydra's and omegaconf's only owner."""
