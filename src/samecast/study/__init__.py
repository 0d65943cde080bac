"""The study: where, when and with which masks should attention be routed? Grids of rules on shared prefixes."""
