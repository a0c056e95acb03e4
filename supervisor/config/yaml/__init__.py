"""YAML as plain data, with the line of every value: read within bounds, with what it may have misread, and its variables."""
