"""``python -m triggers_cli`` is ``triggers``."""

from triggers_cli.main import main

main()
