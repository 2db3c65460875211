"""A plain Hydra app on Shardline's configs, the baseline for the command."""

APP = """\
import hydra
from omegaconf import OmegaConf
OmegaConf.register_new_resolver("examples", lambda name: "{examples}/" + name, replace=True)

@hydra.main(version_base="1.3", config_path="{conf}", config_name="config")
def main(config):
    return 0.0

main()
"""
