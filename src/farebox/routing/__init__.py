"""Which channels may serve a call, from an immutable snapshot; pure."""
