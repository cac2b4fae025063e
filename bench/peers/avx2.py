"""Peers held to AVX2 on a CPU that has more; hide_avx512.cpp tells how and why so."""
import os
import pathlib
import re
import shutil
import subprocess

LIBRARY = pathlib.Path("bin", "napi-v6", "linux", "x64", "libonnxruntime.so.1")
# The C library chooses memcpy by CPUID too, and has a switch.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW"}


def without_cpuid(code, listing):
    """`code`, a file, with every CPUID of its disassembly replaced. -> bytes"""
    changed = bytearray(code)
    places = [int(place, 16) for place in re.findall(r"^ *([0-9a-f]+):\tcpuid", listing, re.M)]
    for place in places:
        # Addresses are offsets in the file as long as the first segments are mapped one to one.
        if changed[place:place + 2] != b"\x0f\xa2":
            raise OSError(f"{LIBRARY.name}: no CPUID at {place:#x}, where objdump found one")
        changed[place] = 0x06
    if not places:
        raise OSError(f"{LIBRARY.name}: no CPUID found")
    return bytes(changed)


def masked_package(package):
    """A copy of ONNX Runtime's package that sees no AVX-512, beside it. -> its folder"""
    copy = package.with_name(package.name + "-avx2")
    if not copy.exists():
        partial = package.with_name(package.name + "-partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(package, partial,
                        ignore=shutil.ignore_patterns("darwin", "win32", "arm64"))
        library = partial / LIBRARY
        listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", library], check=True,
                                 capture_output=True, text=True).stdout
        library.write_bytes(without_cpuid(library.read_bytes(), listing))
        partial.rename(copy)
    return copy


def environment():
    return dict(os.environ, **ENVIRONMENT)
