"""From jobs that lack results to outcomes: packs, executors, retries, shares of several drivers, time left.

Public: `pending` (pending); `packs` (packing); `History`, `Estimate` (estimate); `outcomes`, `Limits` (schedule);
`InProcess`, `OnRay` (executors); `POLICY` (faults); `Shares` (sharing); `Progress` (progress).
"""
