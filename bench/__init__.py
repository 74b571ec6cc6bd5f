"""The benchmarks: what Hookscope costs, in the same run as what else one would do. `python -m bench --help`."""
