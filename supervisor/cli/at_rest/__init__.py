"""What is read and changed in a state directory while no network runs."""
