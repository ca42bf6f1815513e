"""Pages for people: what was refused, and overrides to be decided. Without scripts and cookies."""

from govmiddleware.control.pages.overrides import override_pages
from govmiddleware.control.pages.refusals import refusal_pages
from govmiddleware.control.pages.rendering import stylesheet

__all__ = ["override_pages", "refusal_pages", "stylesheet"]
