"""`optimum-cli dynamic-exit`: Optimum finds this file by its place. No folder on the way may hold an `__init__.py`."""

import argparse

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo


class DynamicExitCommand(BaseOptimumCLICommand):
    """Hands everything on to the command `dynamic-exit`."""

    COMMAND = CommandInfo(name="dynamic-exit", help="Compress classifiers that answer easy inputs early.")

    @staticmethod
    def parse_args(parser: argparse.ArgumentParser) -> None:
        """Take all arguments as they are."""
        parser.usage = "optimum-cli dynamic-exit COMMAND ..."
        parser.description = "The same commands and arguments as `dynamic-exit`; without any, it lists them."
        parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="run, inspect, ...")

    def run(self) -> None:
        """Run the command; without arguments it lists what there is."""
        from dynamic_exit.cli.main import main

        main(self.args.arguments or ["--help"], name="optimum-cli dynamic-exit")


REGISTER_COMMANDS = [DynamicExitCommand]
