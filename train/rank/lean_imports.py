"""Leaves out imports that a rank does not need. Torch-free."""

import sys


def leave_out_detection_losses() -> None:
    """Make transformers treat scipy as missing, so that models do not import losses of object detection.

    These losses are a tenth of a rank's imports. transformers looks for scipy once and caches the answer;
    all other users still find scipy. Call this before transformers is imported; afterwards it has no effect.
    """
    if "transformers.utils" in sys.modules:
        return
    # Python's import system treats an entry of None as a missing package.
    sys.modules["scipy"] = None  # type: ignore[assignment]
    try:
        from transformers.utils import is_scipy_available

        is_scipy_available()
    finally:
        del sys.modules["scipy"]
