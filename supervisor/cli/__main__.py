"""``python -m modvisor.supervisor.cli``: the command, where no script is installed."""

from . import main

main()
