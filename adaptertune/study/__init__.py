"""Experiments on finished runs: what their parts are good for."""
