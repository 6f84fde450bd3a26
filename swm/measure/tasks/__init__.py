"""Downstream tasks: which ones, where their data comes from, and a fast model for lm-eval."""
