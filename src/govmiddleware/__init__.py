"""Composable ASGI middlewares that govern LLM traffic in front of any upstream."""
