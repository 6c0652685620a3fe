"""Tools as declared: their names, the rules about them, their handlers and servers."""
