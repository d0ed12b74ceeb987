"""Where a model runs: in this process, in vLLM, behind a server. `base.py` has the protocols, `registry.py` the list."""
