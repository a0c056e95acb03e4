"""Commands about a cluster: its nodes, and a server to try one out with."""
