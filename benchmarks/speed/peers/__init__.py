"""The peers: each a program of its own, which measures one round and prints its figures as JSON (`answering`)."""
