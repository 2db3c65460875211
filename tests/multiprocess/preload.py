"""Imports what the ranks of any test need, in the process that they are forked from."""

import importlib

import sklearn.metrics  # noqa: F401 - imported for the ranks
import torch._dynamo  # noqa: F401 - imported for the ranks
import transformers.models.llama.modeling_llama  # noqa: F401 - imported for the ranks
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import train.export
import train.rank.setup
import train.worker  # noqa: F401 - imported for the ranks
from train.rank.preload import LAZY

for _name in LAZY:
    importlib.import_module(_name)
# Compiles a thousand patterns on the first call: half a second of each rank's start.
get_checkpoint_conversion_mapping("llama")
