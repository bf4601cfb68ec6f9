"""What the policies of the template give to whom: for the unit and the end-to-end tests."""
