"""What bodies hold: JSON and msgpack, read within bounds and written, and the one shape of a failure. Knows no route."""
