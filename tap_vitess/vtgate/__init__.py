"""VTGate's two ports."""
