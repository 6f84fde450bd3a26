"""Ways to whiten, one file each."""
