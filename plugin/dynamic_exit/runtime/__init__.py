"""Dynamic models in torch: the forward pass, records, archives."""
