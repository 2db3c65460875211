"""What this machine's processor can do. Torch-free."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_X86_NEEDS = {"avx512bw", "avx512dq", "avx512vl"}


def processor_facts(cpuinfo: Path = CPUINFO) -> dict[str, str]:
    """What the kernel says of the first processor, by the names that it uses: they differ on x86 and ARM."""
    lines = (line.partition(":") for line in cpuinfo.read_text().partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def multiplies_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether torch has fast products of bf16 matrices here: with AVX-512 on x86, with BF16 on ARM.

    Elsewhere it goes number by number, and a training in bf16 takes many times as long as in fp32.
    """
    facts = processor_facts(cpuinfo)
    flags = {flag for name in ("flags", "Features") if name in facts for flag in facts[name].split()}
    return flags >= _X86_NEEDS or "bf16" in flags
