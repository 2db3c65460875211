"""Imports what the ranks of any test need, in the process that they are forked from."""

import sklearn.metrics  # noqa: F401 - imported for the ranks
import torch._inductor.compile_fx  # noqa: F401 - imported for the ranks
import transformers.models.llama.modeling_llama  # noqa: F401 - imported for the ranks

import train.export
import train.rank.setup
import train.worker  # noqa: F401 - imported for the ranks
