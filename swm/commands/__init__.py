"""The commands of `swm`, by what they do."""
