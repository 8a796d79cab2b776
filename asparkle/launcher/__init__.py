"""The command ``asparkle``: programs, a prompt, what is installed and what is configured."""
