"""Who may become an agent, what an agent may do and how fast, who may operate, and how each is refused. Knows no inbox."""
