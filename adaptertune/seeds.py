"""Randomness by name: one integer seed -> independent streams, each a function of its name alone.

A seed varies first values (``head``, and ``adapters`` or what else the method adds), ``order`` (of the
examples, anew in each epoch) and ``dropout`` (anew in each step), and nothing else. A stream is derived,
never drawn from: the order of epoch 7 does not depend on epochs 0 to 6, so a resumed run needs no saved
generator, and nothing here touches a global generator.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit integer for a seed and a path of names, e.g. ``derive(3, "dropout", step)``."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for a seed and a path of names."""
    return np.random.Generator(np.random.PCG64(derive(seed, *names)))
