"""The small abstract classes that strategies implement."""
