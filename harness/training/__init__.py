"""Train and test one pack of jobs as one program. Torch only: no Ray, no files.

Public: `Pack` (pack); `run`, `stages` (train); `test`, `validate` (evaluate); `fit` (closed_form); `prior` (cost);
`execute` (execute), from a pack to its rows.
"""
