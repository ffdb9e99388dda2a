"""The ASGI application: routes, what is around them, and the header families they read and write."""
