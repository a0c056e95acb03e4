"""A fixed session, recorded once: the wire, the journal and the answers over HTTP.

`session` is what happens, `wire` listens on the pipes, `journal` reads the database, `masks` hides
what differs from run to run. The recordings (`*.jsonl`) were made by the version before the code was
sorted into rooms; `test_recorded.py` plays the session again and compares. All of it uses public
names only, so that it can be run against another checkout: `python -m tests.recorded`.
"""
