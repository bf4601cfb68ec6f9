"""What the delegates that voted receive."""
