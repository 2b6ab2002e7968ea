"""The stage that changes only the layout, and proves that it did."""
