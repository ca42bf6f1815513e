"""The control plane: health, metrics and the API under `/gov`."""

from govmiddleware.control.routes import control_plane

__all__ = ["control_plane"]
