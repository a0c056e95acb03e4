"""What the guardian imports for all workers with mods of OpenAgents: the host, and what most mods import."""

from .host import OpenAgentsHost

__all__ = ["OpenAgentsHost"]
