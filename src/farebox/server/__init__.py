"""The HTTP server side: the ASGI application and its routes."""
