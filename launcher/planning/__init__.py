"""From a config and facts to a plan, or to every problem that stands in its way."""
