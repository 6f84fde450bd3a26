"""Ways to share the ranks among layers, one file each."""
