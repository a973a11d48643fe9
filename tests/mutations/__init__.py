"""What happens to the tests when a guard is taken out of the code: `run` tells; see `guard`."""
