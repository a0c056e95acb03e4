"""One file for each command, or for commands of one kind. `app.py` lists them."""
