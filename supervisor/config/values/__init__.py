"""Readers: each checks one kind of value, says what it accepts in words and as a JSON Schema; and keys, which hold readers."""
