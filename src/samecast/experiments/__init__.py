"""Long jobs of many units: a store of finished results and a runner that survives failures, locally or on a cluster.

This package is independent of the work that a unit does.
"""
