"""Generation and RL on a CPU (and small GPUs without vLLM) at a bearable speed. Users of vLLM never need this package.

- `shared_prefix_cache.py`: the instruction that all chats share is computed and stored once.
- `prepacked.py`: weights in the order in which the processor multiplies them.
- `sampling.py`: exact top-p sampling, with one stream of random numbers per completion.
- `packed.py`: log-probabilities of several completions of one prompt in a single row.
"""
