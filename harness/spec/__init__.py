"""What is to be run: protocols, jobs and their ids, sweeps and the YAML they are written in, fingerprints of code.

Public: `Protocol`, `PROTOCOLS`, `Expert` (protocol); `Job`, `Case` (job); `Sweep` (sweep); `load` (loader);
`label`, `spec_of` (labels); `build` (validation); `code` (fingerprint).
"""
