"""How many replicas are enough: a trace replayed on them, and Erlang's formula as a floor."""
