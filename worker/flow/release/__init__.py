"""Hot swap: a worker hears of a release, loads and tries it beside the one that serves, switches.

Read `following`, which puts the parts together, then `watch`; what a batch does may not enter.
"""
