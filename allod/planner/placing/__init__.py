"""Which device with which model at which site: the cheapest placement that law, floors and losses allow."""
