"""What stands on the command line: the options of every command, values, help, completion."""
