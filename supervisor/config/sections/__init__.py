"""The sections of a network file: one frozen dataclass each, whose fields are the keys."""
