"""One module per command, each with `execute(args, out) -> exit code`; imported when the command is given."""
