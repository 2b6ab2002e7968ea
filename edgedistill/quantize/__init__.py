"""The stage that changes numbers: it decides every stored weight."""
