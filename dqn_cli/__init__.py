"""dqn_cli: train, evaluate and study deep Q-networks from one command line tool."""

__version__ = "0.1.0"
