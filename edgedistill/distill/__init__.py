"""The stage that changes behaviour: a student learns what the teacher says."""
