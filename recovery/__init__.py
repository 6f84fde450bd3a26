"""Recovery strategies, one file each."""
