"""Compile the GPU kernels without a GPU and count: registers, spills, instructions per state.

    python perf/gpu_static.py [--json results/performance/gpu_static.json]

Writes FILE and a table beside it. Needs triton (its wheel brings ptxas, cuobjdump and nvdisasm), no
GPU and no CUDA toolkit.
Instructions per state: those of the time loop, divided by steps, states and groups of 32 channels,
as one scheduler issues them. The exponential unit alone bounds that at 8 (16 results a clock per
processor, four schedulers).
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from common import markdown

__all__ = ["CASES", "Counts", "count"]

LABEL = re.compile(r"\s*(\.L_x_\d+):")
BRANCH = re.compile(r"BRA.*`\((\.L_x_\d+)\)")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)")


@dataclass(frozen=True)
class Case:
    """One kernel with its constants."""

    name: str
    kernel: str
    dtype: str  # of u, delta, z and their gradients
    constants: dict[str, int | bool]
    n_states: int
    steps: int  # time steps per turn of the largest loop
    warps: int = 1


@dataclass(frozen=True)
class Counts:
    """What the compiler made of a case."""

    name: str
    architecture: str
    registers: int
    stack_bytes: int
    spill_bytes: int
    loop_instructions: int
    instructions_per_state: float
    exponentials_per_state: float


def _scan(name: str, dtype: str, n: int, block: int, ahead: int, **options: bool) -> Case:
    flags = {"SOFTPLUS": True, "REVERSE": False, "ADD": False, "SKIP": True, "GATE": True,
             "BIAS": True, "LAST": False, "SAVE": False, "EVERY": 8, "FAST": True}  # fmt: skip
    constants = {"N": n, "BLOCK": block, "AHEAD": ahead, **flags, **options}
    return Case(name, "scan_kernel", dtype, constants, n, ahead)


_BACKWARD = {"STEPS": 8, "BLOCK": 32, "SOFTPLUS": True, "REVERSE": False, "SKIP": True,
             "GATE": True, "BIAS": True, "LAST": False, "FAST": True}  # fmt: skip
_CONV = {"TAPS": 4, "ROWS": 16, "BLOCK": 64, "SILU": True, "REVERSE": False, "BIAS": True,
         "BOTH": True, "FAST": True}  # fmt: skip
CASES = (
    _scan("forward, 16 states, full GPU", "fp32", 16, 64, 4),
    _scan("forward, 16 states, full GPU, bf16", "bf16", 16, 64, 4),
    _scan("forward, 24 states, full GPU", "fp32", 24, 64, 2),
    _scan("forward, 16 states, small batch", "fp32", 16, 32, 4),
    _scan("reverse, added and gated, 16 states", "fp32", 16, 64, 4, REVERSE=True, ADD=True),
    _scan("forward for training, 16 states", "fp32", 16, 64, 4, LAST=True, SAVE=True),
    Case("backward", "scan_backward_kernel", "fp32", _BACKWARD, 1, 8),
    Case("backward, bf16", "scan_backward_kernel", "bf16", _BACKWARD, 1, 8),
    Case("convolution, both directions", "conv_kernel", "fp32", _CONV, 1, 1, warps=4),
)
_NARROW = {"u", "delta", "z", "out", "dout", "du", "ddelta", "dz", "x", "out_b"}
_WIDE = {"A", "Bm", "Cm", "skip", "bias", "last", "saved", "dlast", "adjoint", "dA", "dB", "dC",
         "dskip", "dbias", "weight", "weight_b", "bias_b"}  # fmt: skip


def count(case: Case, capability: int) -> Counts:
    """Compile `case` for the compute capability (80, 90) and count."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mambabench.models.scan import triton_kernels

    kernel = getattr(triton_kernels, case.kernel)
    signature = {}
    for name in kernel.arg_names:
        if name in case.constants:
            signature[name] = "constexpr"
        elif name in _NARROW:
            signature[name] = f"*{case.dtype}"
        elif name in _WIDE:
            signature[name] = "*fp32"
        else:
            signature[name] = "fp32" if name == "scale" else "i32"
    whole = [["tt.divisibility", 16]]  # pointers, dim and strides, as at run time
    free = {"length", "n_states", "bb", "bs", "cb", "cs", "scale"}
    attributes = {
        (i,): whole
        for i, name in enumerate(kernel.arg_names)
        if signature[name] != "constexpr" and name not in free
    }
    built = triton.compile(
        ASTSource(kernel, signature, case.constants, attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": case.warps},
    )
    return _counted(case, capability, built.asm["cubin"])


def _tool(name: str) -> str:
    import triton

    return str(Path(triton.__file__).parent / "backends/nvidia/bin" / name)


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _counted(case: Case, capability: int, cubin: bytes) -> Counts:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = _run(_tool("nvdisasm"), "-c", file.name).splitlines()
        usage = _run(_tool("cuobjdump"), "-res-usage", file.name)
    body = _largest_loop(listing)
    found = INSTRUCTION.findall("\n".join(body))
    if len(found) < 8:  # a kernel without a loop ends in an idle branch to itself
        found = []
    kinds = collections.Counter(x.split(".")[0] for x in found)
    groups = int(case.constants["BLOCK"]) // 32 / case.warps
    updates = case.steps * case.n_states * groups
    registers, stack = (int(re.search(rf"{k}:(\d+)", usage)[1]) for k in ("REG", "STACK"))  # type: ignore[index]
    every = collections.Counter(INSTRUCTION.findall("\n".join(listing)))
    spills = sum(v for k, v in every.items() if k.startswith(("LDL", "STL")))
    return Counts(
        case.name, f"sm_{capability}", registers, stack, 4 * spills, len(found),
        round(len(found) / updates, 2), round(kinds["MUFU"] / updates, 2),
    )  # fmt: skip


def _largest_loop(listing: list[str]) -> list[str]:
    """Return the longest run of lines that a backward branch closes, with no such run inside."""
    labels = {m[1]: i for i, line in enumerate(listing) if (m := LABEL.match(line))}
    loops = []
    for i, line in enumerate(listing):
        match = BRANCH.search(line)
        start = labels.get(match[1], i) if match else i
        if start < i:
            loops.append((start, i))
    inner = [x for x in loops if not any(x != y and x[0] <= y[0] and y[1] <= x[1] for y in loops)]
    first, last = max(inner, key=lambda x: x[1] - x[0], default=(0, len(listing) - 1))
    return listing[first : last + 1]


def main() -> None:
    """Print and, if asked, store the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--capability", type=int, action="append")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    rows = []
    for capability in options.capability or (80, 90):
        for case in (c for c in CASES if options.only in c.name):
            rows.append(count(case, capability))
            print(rows[-1], flush=True)
    if options.json:
        found = [asdict(r) for r in rows]
        options.json.write_text(json.dumps(found, indent=2) + "\n")
        options.json.with_suffix(".md").write_text(
            "Command: `python perf/gpu_static.py`, no GPU. Counts of the compiled kernels, not "
            f"times.\n\n{markdown(found)}"
        )


if __name__ == "__main__":
    main()
