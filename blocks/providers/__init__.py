"""Who answers a model's requests."""
