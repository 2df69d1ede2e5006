"""What tests share. Files of tests import from here, and never from each other."""
