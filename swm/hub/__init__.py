"""Checks a result and pushes it to the Hugging Face Hub."""
