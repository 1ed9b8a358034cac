"""The HTTP side: the JSON API under ``/api`` and the probes. It calls the service, and nothing below it."""
