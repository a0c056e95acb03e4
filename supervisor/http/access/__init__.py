"""Who may ask: operators by token, session or socket, and no web page that has no business here. Knows no route."""
