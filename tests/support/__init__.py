"""What tests share. Test files import from here, and never from each other."""
