"""Seeded draws that are the same bits on every machine and under every numpy.

Numpy keeps the raw stream of a bit generator stable, but not its distributions, and ``log`` or ``cos`` may differ in
the last bit between processors. So uniforms are made from raw 64-bit numbers, and normals are sums of twelve uniforms
(Irwin and Hall): mean 0, variance 1, nothing beyond ±6, and only additions, which IEEE 754 rounds alike everywhere.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from northstar_core.model.tape import Float64


class Draws:
    """One stream of PCG64, named by its key: other streams do not move when one draws more."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "little"))

    def raw(self, n: int) -> NDArray[np.uint64]:
        """Return n uniform 64-bit integers."""
        return np.asarray(self._bits.random_raw(n), dtype=np.uint64)

    def below(self, limit: int, n: int) -> NDArray[np.int64]:
        """Return n integers from 0 to ``limit`` - 1 (the bias of the remainder is below limit / 2**64)."""
        return (self.raw(n) % np.uint64(limit)).astype(np.int64)

    def uniform(self, n: int) -> Float64:
        """Return n floats in [0, 1)."""
        return (self.raw(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, n: int) -> Float64:
        """Return n approximately standard normal floats."""
        total = self.uniform(n)
        for _ in range(11):
            total = total + self.uniform(n)
        return total - 6.0
