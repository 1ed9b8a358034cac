"""The JSON API: one route table (``routes``), endpoints by noun, the shapes that come in and go out."""
