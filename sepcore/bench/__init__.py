"""Measures: this machine's limits, a network's layers, and a network beside other runtimes; it changes nothing."""
