"""Cluster managers (inline, threads, processes) and block stores (memory, disk)."""
