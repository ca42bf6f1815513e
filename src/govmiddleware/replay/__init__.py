"""Replay: recorded exchanges through the stack's own parts, to see what they used and what limits would have said."""
