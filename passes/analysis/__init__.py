"""Pure functions from a Program to frozen figures. They run nothing and change nothing."""
