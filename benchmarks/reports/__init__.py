"""Figures as text, Markdown and SVG. Nothing here measures anything."""
