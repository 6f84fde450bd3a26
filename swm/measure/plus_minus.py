"""What ± means wherever swm shows a measure: the standard error, and nothing else."""

from __future__ import annotations

# In the head of every table that has a ±.
PLUS_MINUS = "± standard error"
