"""Of this package; the same as that of the service in the same repository."""

VERSION = "0.1.0"
