"""Long jobs of many units: one store for what is finished, one runner that survives failures, here or on a cluster.

Nothing in here knows what the work is.
"""
