"""How a robot obeys: what an action means, and the servo that turns it into joint targets."""
