"""Choosing a recipe for a model, a target and a number of minutes, by what was measured."""
