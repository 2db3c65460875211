"""Make a plan from a config and facts about the machine, or report every problem that prevents it."""
