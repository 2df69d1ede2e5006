"""What VStream says; pure."""
