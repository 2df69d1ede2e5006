"""The gRPC client of VTGate's VStream; it knows nothing of Singer."""
