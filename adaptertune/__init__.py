"""Fine-tune BERT on GLUE with the bottleneck adapters of Houlsby et al. (ICML 2019)."""

__version__ = "0.1.0"
