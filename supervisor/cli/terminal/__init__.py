"""What the command writes and reads: standard streams, tables, exit codes, a conversation. Knows no network."""
