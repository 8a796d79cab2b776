"""The model: lineage, plan, scheduler, driver, tasks, shuffle and blocks.  Knows no backend and no plugin."""
