"""What a rank's imports leave out. Torch-free."""

import sys


def leave_out_detection_losses() -> None:
    """Let transformers find no scipy: where it does, every model brings losses of object detection along.

    They are a tenth of what a rank imports. scipy stays as it is for everyone else: transformers asks for
    it once and remembers the answer. Has to come before anything imports either; does nothing after that.
    """
    if "transformers.utils" in sys.modules:
        return
    # What Python's import system takes for a package that is not there.
    sys.modules["scipy"] = None  # type: ignore[assignment]
    try:
        from transformers.utils import is_scipy_available

        is_scipy_available()
    finally:
        del sys.modules["scipy"]
