"""Dense convolutions of stride two with fewer products."""
