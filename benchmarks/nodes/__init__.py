"""One network on three machines, of which some die, stop or lose one another while agents work."""
