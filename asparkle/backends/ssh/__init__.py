"""Nodes that are reached by ssh, and need nothing but Python."""
