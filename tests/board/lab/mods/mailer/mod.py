"""Sends mails, and fails now and then, as mail servers do."""

from itertools import count

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Mailer(BaseMod):
    version = "0.9.2"
    description = "Sends mails"

    def initialize(self):
        self.sent = count(1)
        print("mailer: connected to smtp.example.org:587")
        return True

    @mod_event_handler("mailer.send")
    def send(self, event):
        number = next(self.sent)
        if number % 25 == 0:
            raise ConnectionError(f"the mail server closed the connection before mail {number}")
        if number % 5 == 0:
            print(f"mail {number} to {event.payload.get('to', 'customer@example.org')} sent")
        return EventResponse(True)
