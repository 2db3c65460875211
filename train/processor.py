"""What this machine's processor can do. Torch-free."""

from pathlib import Path

_X86_NEEDS = {"avx512bw", "avx512dq", "avx512vl"}


def multiplies_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether torch has fast products of bf16 matrices here: with AVX-512 on x86, with BF16 on ARM.

    Elsewhere it goes number by number, and a training in bf16 takes many times as long as in fp32.
    """
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    known = (words.split() for name, _, words in lines if name.strip() in ("flags", "Features"))
    flags = set(next(known, []))
    return flags >= _X86_NEEDS or "bf16" in flags
