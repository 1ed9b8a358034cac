"""The web UI: one function a page, and one a form. They ask the services, as the API does, and render templates."""
