"""Imports DeepSpeed's Muon without torch's compiler."""

from deepspeed.runtime import compiler


def import_muon_uncompiled() -> None:
    """Avoid the import of torch's compiler at the start: 560 modules, a sixth of a rank's import time.

    DeepSpeed imports its Muon to test whether an optimizer is an instance of it, which ours never is. That
    import decorates Muon's kernels with torch.compile. Call this before any other import of Muon.
    """
    compile_as_asked = compiler.compile
    compiler.compile = lambda: compiler.dummy_decorator
    try:
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        compiler.compile = compile_as_asked
