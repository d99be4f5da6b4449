"""Clean-up: exact passes that make a graph shorter and say less in more regular words."""
