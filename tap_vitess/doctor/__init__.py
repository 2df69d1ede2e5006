"""The preflight report: what a run would meet, found out without running.

    findings.py   what a finding is, how bad it is, exit codes                  pure
    judge_*.py    facts -> findings: cluster, tables, state                    pure
    examine.py    asks VTGate, and has the answers judged
    report.py     findings -> text or JSON                                      pure

Nothing here imports the SDK, so that it starts in half a second.
"""
