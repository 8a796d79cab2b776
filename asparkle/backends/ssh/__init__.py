"""Executors on machines that the OpenSSH client reaches: master URLs ``ssh://host,host`` and ``ssh:nodes.toml``."""
