"""Studies: many recipes run, measured alike, and compared."""
