"""What agents and steps may use: compiled into plans, asked at check time, at call time, and for people."""
