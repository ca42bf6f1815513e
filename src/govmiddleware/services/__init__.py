"""What middlewares, control, cli and code without HTTP share, over the ports of `core.ports`."""
