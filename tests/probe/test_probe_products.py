"""Compiled matrix products against double precision, at every edge and in every orientation."""

from __future__ import annotations

import threading

import pytest
import torch

from mambabench.probe.heads import products

needs_avx512 = pytest.mark.skipif(
    not products.llvmlite.binding.get_host_cpu_features().get("avx512f"),
    reason="no AVX-512 here: the kernels would compile, slowly, and are never chosen",
)


def _matrix(rows: int, columns: int, across: bool, seed: int) -> torch.Tensor:
    """Return a matrix whose rows (columns where `across`) are contiguous, inside a wider one."""
    generator = torch.Generator().manual_seed(seed)
    if across:
        return torch.randn(columns, rows + 3, generator=generator)[:, 1 : rows + 1].t()
    return torch.randn(rows, columns + 5, generator=generator)[:, 2 : columns + 2]


SHAPES = [
    (8, 1, 16),
    (8, 16, 17),
    (9, 3, 31),
    (15, 15, 47),
    (16, 17, 48),
    (17, 2, 49),
    (50, 100, 64),
    (63, 31, 100),
    (65, 33, 193),
    (72, 16, 209),
    (71, 141, 384),
    (141, 47, 1009),
    (20, 1025, 1031),
    (70, 4096, 50),
]


@needs_avx512
@pytest.mark.parametrize("across_b", [False, True])
@pytest.mark.parametrize("across_a", [False, True])
@pytest.mark.parametrize(("m", "depth", "n"), SHAPES)
def test_products_equal_double_precision(
    m: int, depth: int, n: int, across_a: bool, across_b: bool
) -> None:
    a, b = _matrix(m, depth, across_a, 1), _matrix(depth, n, across_b, 2)
    around = torch.full((m + 2, n + 7), 3.25)
    out = around[1 : m + 1, 4 : n + 4]
    products.compiled_multiply(a, b, out)
    truth = a.double() @ b.double()
    bound = a.double().abs() @ b.double().abs()  # of the rounding, number by number
    assert float(((out.double() - truth).abs() / bound).max()) < 1e-7 * depth**0.5 + 1e-7
    out.fill_(3.25)
    assert bool((around == 3.25).all()), "wrote beside the result"


@needs_avx512
@pytest.mark.parametrize("across", [False, True])
def test_numbers_do_not_depend_on_their_place(across: bool) -> None:
    a, b = _matrix(77, 141, across, 3), _matrix(141, 333, across, 4)
    whole = torch.empty(77, 333)
    products.compiled_multiply(a, b, whole)
    part = torch.empty(9, 18)
    products.compiled_multiply(a[41:50], b[:, 200:218], part)
    torch.testing.assert_close(part, whole[41:50, 200:218], rtol=0, atol=0)


@needs_avx512
def test_infinite_numbers_stay_in_their_row_and_column() -> None:
    a, b = torch.ones(50, 20), torch.ones(20, 70)
    a[49, 3], b[5, 69] = float("inf"), float("nan")
    out = torch.empty(50, 70)
    products.compiled_multiply(a, b, out)
    assert bool((out[:49, :69] == 20).all())
    assert bool(out[:49, 69].isnan().all())
    assert bool((out[49, :69] == float("inf")).all())


@needs_avx512
def test_threads_do_not_share_scratch() -> None:
    cases = [(_matrix(40 + i, 100, True, i), _matrix(100, 200 + i, True, i + 9)) for i in range(4)]
    expected = [torch.empty(len(a), b.shape[1]) for a, b in cases]
    for (a, b), out in zip(cases, expected, strict=True):
        products.compiled_multiply(a, b, out)
    wrong: list[int] = []

    def work(i: int) -> None:
        a, b = cases[i]
        for _ in range(50):
            out = torch.empty_like(expected[i])
            products.compiled_multiply(a, b, out)
            if not torch.equal(out, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


UNSUITED = {
    "few rows": (torch.ones(7, 20), torch.ones(20, 16), torch.ones(7, 16)),
    "few columns": (torch.ones(8, 20), torch.ones(20, 15), torch.ones(8, 15)),
    "no depth": (torch.ones(8, 0), torch.ones(0, 16), torch.ones(8, 16)),
    "no rows": (torch.ones(0, 20), torch.ones(20, 16), torch.ones(0, 16)),
    "deep": (torch.ones(8, 5000), torch.ones(5000, 16), torch.ones(8, 16)),
    "gaps": (torch.ones(8, 40)[:, ::2], torch.ones(20, 16), torch.ones(8, 16)),
    "double": tuple(torch.ones(s, dtype=torch.float64) for s in ((8, 20), (20, 16), (8, 16))),
}


@pytest.mark.parametrize("case", UNSUITED)
def test_other_products_are_those_of_torch(case: str) -> None:
    a, b, out = UNSUITED[case]
    with pytest.raises(ValueError, match="these products take float32 matrices"):
        products.compiled_multiply(a, b, out)
    out = torch.zeros_like(out)
    products.multiply(a, b, out)
    assert torch.equal(out, torch.mm(a, b))


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"not \[8, 20\] times \[21, 16\] into \[8, 16\]"):
        products.compiled_multiply(torch.ones(8, 20), torch.ones(21, 16), torch.ones(8, 16))


@pytest.mark.parametrize(
    ("name", "avx512", "gains"),
    [
        ("znver4", True, True),
        ("znver5", True, True),
        ("znver3", False, False),
        ("sapphirerapids", True, False),
        ("apple-m1", False, False),
    ],
)
def test_the_machine_chooses(
    monkeypatch: pytest.MonkeyPatch, name: str, avx512: bool, gains: bool
) -> None:
    binding = products.llvmlite.binding
    monkeypatch.setattr(binding, "get_host_cpu_name", lambda: name)
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: {"avx512f": avx512})
    assert products.host_gains.__wrapped__() is gains


@needs_avx512
@pytest.mark.parametrize("gains", [True, False])
def test_multiply_takes_the_way_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, gains: bool
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(products, "host_gains", lambda: gains)
    monkeypatch.setattr(products, "_run", lambda a, b, out: taken.append("kernels"))
    out = torch.full((96, 96), -1.0)
    products.multiply(torch.ones(96, 100), torch.ones(100, 96), out)
    assert (taken, float(out[0, 0])) == ((["kernels"], -1.0) if gains else ([], 100.0))
    small = torch.full((16, 16), -1.0)
    products.multiply(torch.ones(16, 16), torch.ones(16, 16), small)
    assert len(taken) == int(gains)  # a small product is torch's on every machine
    assert float(small[0, 0]) == 16.0
