"""What is printed from the keys: the tables of docs/config.md, and JSON Schemas for editors."""
