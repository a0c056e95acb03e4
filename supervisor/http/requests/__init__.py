"""A request before it reaches its route: what it says, its body, its trace, and the short way of ordinary ones."""
