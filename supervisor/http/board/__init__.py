"""The operator's page at `/` of the HTTP port: its files, how somebody logs in there, and the headers that guard it."""
