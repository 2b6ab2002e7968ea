"""What the sample recipes read: one file for each package that it comes in."""
