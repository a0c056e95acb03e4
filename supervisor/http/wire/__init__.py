"""Bytes to requests and back: HTTP on one connection. Knows no other connection, and no route."""
