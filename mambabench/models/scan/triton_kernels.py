"""GPU kernels of the selective scan and the depthwise convolution; importing this needs triton.

Sequential over time, parallel over batch and channels: a thread owns whole channels and keeps their
states in registers, each state its own vector in a tuple that the time loop carries. That needs no
shuffles, wastes nothing for state counts that are no power of two, and spends about ten
instructions per state update. Loads of a few steps are issued ahead of their use by hand.
States and steps are float32 whatever the inputs are.
"""

# mypy: ignore-errors
# (kernels are compiled, not called: their arguments are pointers and constants)

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["CHUNK", "conv_kernel", "scan_backward_kernel", "scan_kernel"]

CHUNK = 8  # steps between saved states: with 16 the backward does not fit into the registers


@triton.jit
def _exp2(x, FAST: tl.constexpr):
    """2**x; FAST skips the fix-up of subnormal results (not known to the interpreter)."""
    if FAST:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@triton.jit
def _softplus(x, FAST: tl.constexpr):
    """max(x, 0) + log1p(exp(-|x|)); a polynomial, for log(1 + t) loses small steps."""
    t = _exp2(-1.4426950408889634 * tl.abs(x), FAST)
    p = 0.00536377009 * t - 0.0300616915
    p = p * t + 0.0791981789
    p = p * t - 0.137532933
    p = p * t + 0.191534215
    p = p * t - 0.248570972
    p = p * t + 0.333213106
    p = p * t - 0.49999647
    p = p * t + 1.0
    return p * t + tl.where(x < 0, 0.0, x)


@triton.jit
def _sigmoid(x, FAST: tl.constexpr):
    return 1.0 / (1.0 + _exp2(-1.4426950408889634 * x, FAST))


@triton.jit
def scan_kernel(
    u, delta, A, Bm, Cm, skip, z, bias, out, last, saved, length, dim,
    ub, us, tb, ts, bb, bs, cb, cs, zb, zs, ob, os, scale,
    N: tl.constexpr, BLOCK: tl.constexpr, AHEAD: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, ADD: tl.constexpr, SKIP: tl.constexpr, GATE: tl.constexpr,
    BIAS: tl.constexpr, LAST: tl.constexpr, SAVE: tl.constexpr, EVERY: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """Scan BLOCK channels of one batch element; arguments as in the CPU kernel `scan_forward`."""
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = d < dim
    rates = ()
    h = ()
    for n in tl.static_range(N):
        rate = tl.load(A + n * dim + d, mask=inside, other=0.0).to(tl.float32)
        rates += (rate * 1.4426950408889634,)
        h += (tl.zeros((BLOCK,), tl.float32),)
    direct = tl.load(skip + d, mask=inside, other=0.0) if SKIP else 0.0
    offset = tl.load(bias + d, mask=inside, other=0.0) if BIAS else 0.0
    sign = -1 if REVERSE else 1
    start = length - 1 if REVERSE else 0
    n_chunks = (length + EVERY - 1) // EVERY
    for k in range(0, length, AHEAD):
        if SAVE:  # noqa: SIM102 (a constant: not compiled at all without it)
            if k % EVERY == 0:
                to = saved + ((b * n_chunks + k // EVERY) * N) * dim
                for n in tl.static_range(N):
                    tl.store(to + n * dim + d, h[n], mask=inside)
        xs = ()
        steps = ()
        gates = ()
        sums = ()
        for i in tl.static_range(AHEAD):
            ok = inside & (k + i < length)
            t = start + sign * (k + i)
            xs += (tl.load(u + b * ub + t * us + d, mask=ok, other=0.0).to(tl.float32),)
            steps += (tl.load(delta + b * tb + t * ts + d, mask=ok, other=0.0).to(tl.float32),)
            if GATE:
                gates += (tl.load(z + b * zb + t * zs + d, mask=ok, other=0.0).to(tl.float32),)
            if ADD:
                sums += (tl.load(out + b * ob + t * os + d, mask=ok, other=0.0).to(tl.float32),)
        for i in tl.static_range(AHEAD):
            here = k + i < length
            t = start + sign * (k + i)
            step = steps[i] + offset
            if SOFTPLUS:
                step = _softplus(step, FAST)
            step = tl.where(here, step, 0.0)  # past the end the state stays as it is
            x = xs[i]
            drive = step * x
            y = direct * x
            after = ()
            for n in tl.static_range(N):
                gain = tl.load(Bm + b * bb + t * bs + n, mask=here, other=0.0)
                read = tl.load(Cm + b * cb + t * cs + n, mask=here, other=0.0)
                value = _exp2(step * rates[n], FAST) * h[n] + drive * gain
                y += value * read
                after += (value,)
            h = after
            if ADD:
                y += sums[i]
            if GATE:
                y = y * gates[i] * _sigmoid(gates[i], FAST) * scale
            ok = inside & here
            tl.store(out + b * ob + t * os + d, y.to(out.dtype.element_ty), mask=ok)
    if LAST:
        for n in tl.static_range(N):
            tl.store(last + (b * N + n) * dim + d, h[n], mask=inside)


@triton.jit
def scan_backward_kernel(
    u, delta, A, Bm, Cm, skip, z, bias, saved, dout, dlast, du, ddelta, dz, adjoint, dA, dB, dC,
    dskip, dbias, length, dim, n_states,
    ub, us, tb, ts, zb, zs, gb, gs, ob, os,
    STEPS: tl.constexpr, BLOCK: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    SKIP: tl.constexpr, GATE: tl.constexpr, BIAS: tl.constexpr, LAST: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """Gradients of BLOCK channels of one batch element.

    Chunks in reverse. Per state, the STEPS states and decays of the chunk again from the saved
    state, in registers, then the adjoint backwards. `adjoint`, `dA` [batch, n_states, dim] carry
    both from chunk to chunk. `Bm`, `Cm` [batch, n_states, length]: time last, so that the steps of
    a chunk share a pointer; so are `dB`, `dC` [batch, blocks, n_states, length], sums over this
    block's channels. They, `dskip` and `dbias` [batch, dim] are added up by the caller: no
    atomics, equal bytes every time.
    """
    b = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    d = block * BLOCK + tl.arange(0, BLOCK)
    inside = d < dim
    part = b * tl.num_programs(1) + block
    direct = tl.load(skip + d, mask=inside, other=0.0) if SKIP else 0.0
    offset = tl.load(bias + d, mask=inside, other=0.0) if BIAS else 0.0
    sign = -1 if REVERSE else 1
    start = length - 1 if REVERSE else 0
    n_chunks = (length + STEPS - 1) // STEPS
    to_skip = tl.zeros((BLOCK,), tl.float32)
    to_bias = tl.zeros((BLOCK,), tl.float32)
    for n in range(n_states):
        at = (b * n_states + n) * dim + d
        first = tl.zeros((BLOCK,), tl.float32)
        if LAST:
            first = tl.load(dlast + at, mask=inside, other=0.0)
        tl.store(adjoint + at, first, mask=inside)
        tl.store(dA + at, tl.zeros((BLOCK,), tl.float32), mask=inside)
    for back in range(n_chunks):
        chunk = n_chunks - 1 - back
        k = chunk * STEPS
        steps = ()
        xs = ()
        ys = ()
        dys = ()
        via_input = ()
        via_decay = ()
        for i in tl.static_range(STEPS):
            here = k + i < length
            ok = inside & here
            t = start + sign * (k + i)
            step = tl.load(delta + b * tb + t * ts + d, mask=ok, other=0.0).to(tl.float32) + offset
            if SOFTPLUS:
                step = _softplus(step, FAST)
            step = tl.where(here, step, 0.0)
            x = tl.load(u + b * ub + t * us + d, mask=ok, other=0.0).to(tl.float32)
            dy = tl.load(dout + b * gb + t * gs + d, mask=ok, other=0.0).to(tl.float32)
            if GATE:
                gate = tl.load(z + b * zb + t * zs + d, mask=ok, other=0.0).to(tl.float32)
                dy = dy * gate * _sigmoid(gate, FAST)
            steps += (step,)
            xs += (x,)
            ys += (direct * x,)
            dys += (dy,)
            via_input += (tl.zeros((BLOCK,), tl.float32),)
            via_decay += (tl.zeros((BLOCK,), tl.float32),)
            to_skip += dy * x
        for n in range(n_states):
            rate = tl.load(A + n * dim + d, mask=inside, other=0.0)
            at = (b * n_states + n) * dim + d
            h = tl.load(
                saved + ((b * n_chunks + chunk) * n_states + n) * dim + d, mask=inside, other=0.0
            )
            before = ()
            decays = ()
            new_ys = ()
            for i in tl.static_range(STEPS):
                here = k + i < length
                t = start + sign * (k + i)
                decay = _exp2(steps[i] * rate * 1.4426950408889634, FAST)
                before += (h,)
                decays += (decay,)
                gain = tl.load(Bm + (b * n_states + n) * length + t, mask=here, other=0.0)
                h = decay * h + steps[i] * xs[i] * gain
                if GATE:
                    read = tl.load(Cm + (b * n_states + n) * length + t, mask=here, other=0.0)
                    new_ys += (ys[i] + h * read,)
            if GATE:
                ys = new_ys
            g = tl.load(adjoint + at, mask=inside, other=0.0)
            to_A = tl.load(dA + at, mask=inside, other=0.0)
            new_input = ()
            new_decay = ()
            for i in tl.static_range(STEPS - 1, -1, -1):
                here = k + i < length
                t = start + sign * (k + i)
                gain = tl.load(Bm + (b * n_states + n) * length + t, mask=here, other=0.0)
                read = tl.load(Cm + (b * n_states + n) * length + t, mask=here, other=0.0)
                g += dys[i] * read
                drive = steps[i] * xs[i]
                after = decays[i] * before[i] + drive * gain
                row = (part * n_states + n) * length + t
                tl.store(dC + row, tl.sum(tl.where(inside, dys[i] * after, 0.0), 0), mask=here)
                tl.store(dB + row, tl.sum(tl.where(inside, g * drive, 0.0), 0), mask=here)
                new_input = (via_input[i] + g * gain,) + new_input  # noqa: RUF005
                g = g * decays[i]
                q = g * before[i]
                new_decay = (via_decay[i] + q * rate,) + new_decay  # noqa: RUF005
                to_A += q * steps[i]
            via_input = new_input
            via_decay = new_decay
            tl.store(adjoint + at, g, mask=inside)
            tl.store(dA + at, to_A, mask=inside)
        for i in tl.static_range(STEPS):
            ok = inside & (k + i < length)
            t = start + sign * (k + i)
            du_here = steps[i] * via_input[i] + direct * dys[i]
            dstep = xs[i] * via_input[i] + via_decay[i]
            if SOFTPLUS:
                raw = tl.load(delta + b * tb + t * ts + d, mask=ok, other=0.0).to(tl.float32)
                dstep = dstep * _sigmoid(raw + offset, FAST)
            dstep = tl.where(ok, dstep, 0.0)
            to_bias += dstep
            tl.store(du + b * ob + t * os + d, du_here.to(du.dtype.element_ty), mask=ok)
            tl.store(ddelta + b * ob + t * os + d, dstep.to(ddelta.dtype.element_ty), mask=ok)
            if GATE:
                gate = tl.load(z + b * zb + t * zs + d, mask=ok, other=0.0).to(tl.float32)
                go = tl.load(dout + b * gb + t * gs + d, mask=ok, other=0.0).to(tl.float32)
                s = _sigmoid(gate, FAST)
                dgate = go * ys[i] * s * (1.0 + gate * (1.0 - s))
                tl.store(dz + b * ob + t * os + d, dgate.to(dz.dtype.element_ty), mask=ok)
    if SKIP:
        tl.store(dskip + b * dim + d, to_skip, mask=inside)
    if BIAS:
        tl.store(dbias + b * dim + d, to_bias, mask=inside)


@triton.jit
def conv_kernel(
    x, weight, bias, out, weight_b, bias_b, out_b, length, dim, xb, xs, ob, os,
    TAPS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, SILU: tl.constexpr,
    REVERSE: tl.constexpr, BIAS: tl.constexpr, BOTH: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Depthwise causal convolution, then SiLU, of ROWS steps and BLOCK channels; `weight` is
    [dim, TAPS]. REVERSE: anti-causal. BOTH: also the other direction, from the same rows."""
    b = tl.program_id(0).to(tl.int64)
    t = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    d = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)[None, :]
    ok = (t < length) & (d < dim)
    here = tl.zeros((ROWS, BLOCK), tl.float32)
    other = tl.zeros((ROWS, BLOCK), tl.float32)
    if BIAS:
        here += tl.load(bias + d, mask=d < dim, other=0.0)
        if BOTH:
            other += tl.load(bias_b + d, mask=d < dim, other=0.0)
    for k in tl.static_range(TAPS):
        away = TAPS - 1 - k
        row = t + away if REVERSE else t - away
        seen = ok & (row >= 0) & (row < length)
        value = tl.load(x + b * xb + row * xs + d, mask=seen, other=0.0).to(tl.float32)
        here += value * tl.load(weight + d * TAPS + k, mask=d < dim, other=0.0)
        if BOTH:
            row = t - away if REVERSE else t + away
            seen = ok & (row >= 0) & (row < length)
            value = tl.load(x + b * xb + row * xs + d, mask=seen, other=0.0).to(tl.float32)
            other += value * tl.load(weight_b + d * TAPS + k, mask=d < dim, other=0.0)
    if SILU:
        here = here * _sigmoid(here, FAST)
    tl.store(out + b * ob + t * os + d, here.to(out.dtype.element_ty), mask=ok)
    if BOTH:
        if SILU:
            other = other * _sigmoid(other, FAST)
        tl.store(out_b + b * ob + t * os + d, other.to(out_b.dtype.element_ty), mask=ok)
