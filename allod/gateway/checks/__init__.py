"""Checks of answers in the gateway: what a cascade asks of a base's answer before it is delivered."""
