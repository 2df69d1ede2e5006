"""From the images of a row to records and JSON lines."""
