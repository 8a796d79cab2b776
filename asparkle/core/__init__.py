"""The model: lineage, plan, scheduler, driver, tasks, shuffle and blocks.  Knows no backend and no plugin.

Three modules here are public, for plugins and listeners; what they promise changes only with a word in the
CHANGELOG:

- `asparkle.core.contracts`: what backends, block stores, cache policies and listeners implement;
- `asparkle.core.events`: what listeners get;
- `asparkle.core.errors`: every error, also to be had from `asparkle.errors`.

All other modules are private and change at any time.  Users import from `asparkle` and `asparkle.aio`.
"""
