"""How values and tables look to people: in messages, in a Python session, in a notebook."""
