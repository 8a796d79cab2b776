"""The model: lineage, plan, scheduler, driver, tasks, shuffle and blocks.  Knows no backend and no plugin.

All of it is private and changes at any time.  Users import from `asparkle` and `asparkle.aio`; plugins from
`asparkle.plugins`, `asparkle.events`, `asparkle.conf` and `asparkle.errors`.
"""
