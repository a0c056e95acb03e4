"""Agents of a network of several nodes: where each is at home, what moves with it, and how events get there."""
