"""What agents ask: the routes of their API, and the forms in which they send and get events."""
