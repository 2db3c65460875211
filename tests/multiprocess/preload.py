"""What a rank imports, imported once by the process that the ranks of tests are forked from."""

import importlib

from train.rank.gc_policy import frozen_imports
from train.rank.lean_imports import leave_out_detection_losses

with frozen_imports():
    leave_out_detection_losses()
    import sklearn.metrics  # noqa: F401
    import torch._dynamo  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    import train.export
    import train.rank.setup
    import train.worker  # noqa: F401
    from train.rank.preload import LAZY

    for name in LAZY:
        importlib.import_module(name)

    # Compiles a thousand patterns on the first call: half a second of each rank's start.
    get_checkpoint_conversion_mapping("llama")
