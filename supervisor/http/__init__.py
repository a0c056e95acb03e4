"""What the network serves: the agents' API over TCP, the operator's API over a unix socket."""
