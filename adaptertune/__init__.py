"""Fine-tune BERT on GLUE with the bottleneck adapters of Houlsby et al. (ICML 2019).

>>> import adaptertune as at
>>> at.__all__
['Counts', 'count', 'fine_tune', 'insert_adapters', 'pipeline']
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from adaptertune.api import Counts, count, fine_tune, insert_adapters, pipeline

__all__ = ["Counts", "count", "fine_tune", "insert_adapters", "pipeline"]


def __getattr__(name: str) -> Any:
    """What the library offers, loaded when it is first asked for: it needs torch, the rest does not."""
    if name not in __all__:
        raise AttributeError(f"module 'adaptertune' has no attribute '{name}'")
    from adaptertune import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
