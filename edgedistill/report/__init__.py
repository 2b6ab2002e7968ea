"""The stage that says what was measured, and changes nothing."""
