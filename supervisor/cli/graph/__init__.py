"""``modvisor graph``: who sends to whom, and who needs whom, as text, for graphviz, or as a drawing."""
