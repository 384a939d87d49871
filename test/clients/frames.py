"""What the clients that have wsproto's frames share."""

from wsproto.events import BytesMessage, TextMessage


def to_event(message, finished=True):
    kind = TextMessage if isinstance(message, str) else BytesMessage
    return kind(message, message_finished=finished)


class Messages:
    """Of the events that `events` yields."""

    def event(self):
        return next(self.events())

    def message(self):
        parts = []
        for event in self.events():
            if not isinstance(event, (TextMessage, BytesMessage)):
                raise AssertionError(f"{event} instead of a message")
            parts.append(event.data)
            if event.message_finished:
                return type(event.data)().join(parts)
