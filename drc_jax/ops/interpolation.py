"""What up-sampling and a 3x3 kernel's shifts do to the nine taps of a product.

Along one axis, x[i] being the taps' pixels and up[j] the doubled ones:

      x:   |      i - 1      |        i        |      i + 1      |
      up:  | 2i - 2 | 2i - 1 |   2i   | 2i + 1 | 2i + 2 | 2i + 3 |

    up[2i]     = 1/4 x[i - 1] + 3/4 x[i]         up[2i + 1] = 3/4 x[i] + 1/4 x[i + 1]
    out[j]     = sum over t of up_t[j + t - 1]    up_t from the pixels of tap t = 0, 1, 2

So a pixel of ``out`` reads three neighbours of three taps, with these weights (``_weights``):

                       x[i - 1]   x[i]   x[i + 1]
    out[2i]      t = 0    3/4      1/4       .        up_0[2i - 1]
                 t = 1    1/4      3/4       .        up_1[2i]
                 t = 2     .       3/4      1/4       up_2[2i + 1]
    out[2i + 1]  t = 0    1/4      3/4       .        up_0[2i]
                 t = 1     .       3/4      1/4       up_1[2i + 1]
                 t = 2     .       1/4      3/4       up_2[2i + 2]

At the two ends x is clamped, and up is zero outside. Both axes are done so, one after the other.
This is one linear map; it and its transpose have two forms: sums of slices for CPUs, and sums of
whole arrays with weights for accelerators, where every loop that XLA makes of them reads and writes
in rows.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from drc_jax.ops.slices import moved, padded, total
from drc_jax.ops.xla import fenced, on_cpu, sums_dtype

Taps = Float[Array, "b h w 3 3 c"]
Doubled = Float[Array, "b 2*h 2*w c"]


# The transpose is written out: the one autodiff would make pads and adds every slice by itself.
@jax.custom_vjp
def interpolate(taps: Taps) -> Doubled:
    """sum_t shift_t(up(tap t)): bilinear 2x up-sampling and the shifts of a 3x3 kernel.

    Args:
      taps: [B, H, W, 3, 3, C], the columns' taps first. Sums are float32 at least.

    Returns:
      [B, 2H, 2W, C] in the dtype of ``taps``.
    """
    return by_slices(taps) if on_cpu() else by_weights(taps)


def _forward(taps: Taps) -> tuple[Doubled, None]:
    return interpolate(taps), None


def _backward(_: None, cotangent: Array) -> tuple[Taps]:
    transposed = by_slices_transposed if on_cpu() else by_weights_transposed
    return (transposed(cotangent),)


interpolate.defvjp(_forward, _backward)


@functools.lru_cache(maxsize=64)
def _weights(size: int) -> np.ndarray:
    """[2, 3, 3, size]: what x[i] adds to out[2 (i - offset) + parity] for parity, tap, offset + 1.

    Up-sampling one axis with clamped edges, then shifting by tap - 1 with zeros from outside.
    """
    up = np.zeros((2 * size, size), np.float32)
    for i in range(size):
        for neighbour, weight in ((-1, 0.25), (0, 0.75)):
            up[2 * i, np.clip(i + neighbour, 0, size - 1)] += weight
            up[2 * i + 1, np.clip(i - neighbour, 0, size - 1)] += weight
    weights = np.zeros((2, 3, 3, size), np.float32)
    for parity, tap, offset, i in np.ndindex(2, 3, 3, size):
        output, row = i - (offset - 1), 2 * (i - (offset - 1)) + parity + tap - 1
        if 0 <= output < size and 0 <= row < 2 * size:
            weights[parity, tap, offset, i] = up[row, i]
    return weights


def by_slices(taps: Taps) -> Doubled:
    """``interpolate`` as sums of slices, even and odd places stacked."""
    batch, height, width, _, _, features = taps.shape
    x = taps.astype(sums_dtype(taps))
    wide = _stacked_places(x.reshape(batch, height, width, 3, 3 * features), 2)
    wide = wide.reshape(batch, height, 2 * width, 3, features)
    tall = _stacked_places(jnp.swapaxes(wide, 2, 3), 1)
    return tall.reshape(batch, 2 * height, 2 * width, features).astype(taps.dtype)


def by_slices_transposed(cotangent: Float[Array, "b i j c"]) -> Float[Array, "b i//2 j//2 3 3 c"]:
    """The transpose of ``by_slices``, [B, 2H, 2W, C] -> [B, H, W, 3, 3, C].

    Slices of one padded array are faster than padded slices, but padding the taps forward would
    copy the largest array there is.
    """
    batch, height, width, features = cotangent.shape
    height, width = height // 2, width // 2
    x = cotangent.astype(sums_dtype(cotangent)).reshape(batch, height, 2, 2 * width, features)
    x = padded(padded(x, 1, 1, 1), 3, 2, 2)
    rows = jnp.stack(_collected_taps(x, 1, height), axis=3)
    rows = rows.reshape(batch, height, width + 2, 2, 3 * features)
    taps = jnp.stack(_collected_taps(rows, 2, width), axis=3)
    return taps.reshape(batch, height, width, 3, 3, features).astype(cotangent.dtype)


def _stacked_places(taps: Array, axis: int) -> Array:
    """[..., n, 3, ...] -> [..., n, 2, ...] with n at ``axis``: one axis of ``by_slices``.

    The new axis holds even and odd places of the doubled axis, so a reshape merges them.
    """
    weights = _weights(taps.shape[axis])
    sources = [jax.lax.index_in_dim(taps, t, axis + 1, keepdims=False) for t in range(3)]

    def place(parity: int) -> Array:
        return total(
            moved(total(_weighted(sources, weights[parity, :, offset], axis)), axis, offset - 1)
            for offset in range(3)
            if weights[parity, :, offset].any()
        )

    return jnp.stack([place(0), place(1)], axis + 1)


def _collected_taps(cotangent: Array, axis: int, size: int) -> list[Array]:
    """The transpose of ``_stacked_places``, [..., size + 2, 2, ...] -> three of [..., size, ...].

    What it gets has zeros before and after.
    """
    weights = _weights(size)
    places = [jax.lax.index_in_dim(cotangent, p, axis + 1, keepdims=False) for p in range(2)]
    slices = [
        jax.lax.slice_in_dim(place, 2 - offset, 2 - offset + size, axis=axis)
        for place in places
        for offset in range(3)
    ]
    return [total(_weighted(slices, weights[:, tap].reshape(6, -1), axis)) for tap in range(3)]


def _weighted(arrays: list[Array], weights: np.ndarray, axis: int) -> list[Array]:
    """Each array times its weights [n] along ``axis``; those with no weight at all are left out."""

    def along(row: np.ndarray, like: Array) -> Array:
        shape = [len(row) if i == axis else 1 for i in range(like.ndim)]
        return jnp.asarray(row.reshape(shape), like.dtype)

    return [a * along(row, a) for a, row in zip(arrays, weights, strict=True) if row.any()]


def by_weights(taps: Taps) -> Doubled:
    """``interpolate`` as sums of whole arrays with weights, one loop for each axis."""
    batch, height, width, _, _, features = taps.shape
    wide = _spread(taps.reshape(batch, height, width, 3, 3 * features), 2)
    tall = _spread(wide.reshape(batch, height, 2 * width, 3, features), 1)
    return tall.reshape(batch, 2 * height, 2 * width, features)


def by_weights_transposed(
    cotangent: Float[Array, "b i j c"],
) -> Float[Array, "b i//2 j//2 3 3 c"]:
    """The transpose of ``by_weights``, [B, 2H, 2W, C] -> [B, H, W, 3, 3, C]."""
    batch, height, width, features = cotangent.shape
    height, width = height // 2, width // 2
    rows = _gathered(_narrow(cotangent, cotangent.dtype), 1)
    taps = _gathered(rows.reshape(batch, height, 2 * width, 3 * features), 2)
    return taps.reshape(batch, height, width, 3, 3, features)


def _spread(taps: Array, axis: int) -> Array:
    """Taps at axis 3 of [B, ., ., 3, C] -> even and odd places, on a new axis behind ``axis``."""
    size = taps.shape[axis]
    weights = _weights(size)
    terms = []
    for tap, offset in np.ndindex(3, 3):
        # From the source to the place it is added to; what comes round the end is zero.
        row = np.roll(weights[:, tap, offset], 1 - offset, axis=1).T
        if row.any():
            source = jax.lax.index_in_dim(taps, tap, 3, keepdims=False)
            source = _taken(source, axis, _clamped_rows(size, offset - 1))
            terms.append(_outer(source, row, axis, axis + 1))
    return _narrow(total(terms), taps.dtype)


def _gathered(cotangent: Array, axis: int) -> Array:
    """The transpose of ``_spread``: [B, ., ., C] with 2n at ``axis`` -> n there, taps at axis 3."""
    size = cotangent.shape[axis] // 2
    weights = _weights(size)
    terms = []
    for parity, offset in np.ndindex(2, 3):
        rows = 2 * _clamped_rows(size, 1 - offset) + parity
        terms.append(_outer(_taken(cotangent, axis, rows), weights[parity, :, offset].T, axis, 3))
    return _narrow(total(terms), cotangent.dtype)


def _clamped_rows(size: int, offset: int) -> np.ndarray:
    """[n], i + offset clamped to what there is."""
    return np.clip(np.arange(size) + offset, 0, size - 1)


def _taken(x: Array, axis: int, rows: np.ndarray) -> Array:
    """Rows of x along ``axis``. Clamped and without weight at an edge, not padded.

    Padding asks for every entry whether it lies inside; what takes whole rows reads four at once.
    """
    stride = int(rows[1] - rows[0]) if len(rows) > 1 else 1
    if stride and (np.diff(rows) == stride).all():
        return jax.lax.slice_in_dim(x, int(rows[0]), int(rows[-1]) + 1, stride, axis)
    return jnp.take(x, rows, axis, mode="clip")


def _outer(x: Array, weights: np.ndarray, axis: int, new_axis: int) -> Array:
    """x times weights [n, m], n along ``axis``, m on a new axis ``new_axis``."""
    x = jnp.expand_dims(x, new_axis).astype(sums_dtype(x))
    shape = [1] * x.ndim
    shape[axis], shape[new_axis] = weights.shape
    return x * jnp.asarray(weights.reshape(shape), x.dtype)


def _narrow(x: Array, dtype: jax.typing.DTypeLike) -> Array:
    """``x`` in ``dtype``, which is then what XLA stores, not float32."""
    return fenced(x.astype(dtype))
