"""One run of a sweep, from plan to summary: opens the store, plans, drives the scheduler, commits, audits.

Public: `run`, `Summary` (run); `make_plan`, `Plan` (plan); `explain` (explain); `Audit` (audit).
"""
