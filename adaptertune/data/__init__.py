"""Rows of a task, as text, as tokens and as batches."""
