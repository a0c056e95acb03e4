"""Who may connect, how many and for how long: listening sockets, TLS, and the connections behind them. Knows no route."""
