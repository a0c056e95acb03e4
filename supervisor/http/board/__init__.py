"""The operator's page at `/` of the HTTP port: its files, and who is logged in there. Only `http` imports it."""
