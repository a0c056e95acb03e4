"""Makes pictures small, and holds `hold` megabytes while it is loaded."""

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Thumbs(BaseMod):
    version = "0.3.0"
    description = "Makes pictures small"

    def initialize(self):
        self.held = bytearray(self.config.get("hold", 0) * 1024 * 1024)
        for at in range(0, len(self.held), 4096):
            self.held[at] = 1
        return True

    @mod_event_handler("thumbs.make")
    def make(self, event):
        return EventResponse(True)
