"""Routes: they parse a request, call the store and say what came back."""
