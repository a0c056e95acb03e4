"""The peers: each is a program of its own that measures one round (`asking`)."""
