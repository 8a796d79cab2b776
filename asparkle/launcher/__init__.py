"""``asparkle run`` and ``asparkle shell``: programs and a prompt, with the options of spark-submit."""
