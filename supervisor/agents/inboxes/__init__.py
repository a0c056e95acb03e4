"""What waits for one agent, what it subscribes to, and what it was sent and has not acknowledged. Knows no other agent."""
