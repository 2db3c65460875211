"""Features of this machine's processor. Torch-free."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_X86_NEEDS = {"avx512bw", "avx512dq", "avx512vl"}


def processor_facts(cpuinfo: Path = CPUINFO) -> dict[str, str]:
    """Return the entries of /proc/cpuinfo for the first processor; their names differ on x86 and ARM."""
    lines = (line.partition(":") for line in cpuinfo.read_text().partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def multiplies_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether torch has fast bf16 matrix products here, which need AVX-512 on x86 or BF16 on ARM.

    Other processors multiply the numbers one by one, and training in bf16 is many times slower than in fp32.
    """
    facts = processor_facts(cpuinfo)
    flags = {flag for name in ("flags", "Features") if name in facts for flag in facts[name].split()}
    return flags >= _X86_NEEDS or "bf16" in flags
