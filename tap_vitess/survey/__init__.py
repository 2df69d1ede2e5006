"""What SQL tells."""
