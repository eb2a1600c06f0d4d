"""From a training or test step, written once in tensors, to machine code. Knows no job and no store.

Public: `Step`, `Eager` (step); `Streams`, `keys` (streams); `program` (select), which chooses how a step runs;
`lower` (lower), from a step to C++.
"""
