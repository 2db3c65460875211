"""Compose typed configs from overrides and conf/. Only this package imports Hydra and OmegaConf."""
