"""API keys and the table of settings: `python -m api keys list`, `python -m api settings`."""

import argparse
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from api.database.connection import DatabaseError, open_database
from api.keys import ROLES, KeyRefused, Keys, Quota
from api.settings import Settings
from api.settings_table import settings_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1, and one line that says why, where it cannot be done."""
    options = _parser().parse_args(arguments)
    if options.command == "settings":
        print(settings_table(), end="")
        return 0
    try:
        settings = Settings()
        database = open_database(settings.database_url, settings.home)
        try:
            _keys(options, Keys(database))
        finally:
            database.close()
    except (KeyRefused, DatabaseError, ValidationError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _keys(options: argparse.Namespace, keys: Keys) -> None:
    if options.action == "create":
        quota = Quota(
            options.requests_per_minute, options.pixel_steps_per_day, options.concurrent_jobs
        )
        print(keys.create(options.name, options.role, quota))
        print("Keep it: it is not shown again.", file=sys.stderr)
    elif options.action == "revoke":
        keys.revoke(options.name)
    else:
        for row in keys.all():
            seen = f"{row.used:%Y-%m-%d %H:%M}" if row.used else "never"
            state = f"revoked {row.revoked:%Y-%m-%d}" if row.revoked else "valid"
            print(f"{row.name:24} {row.role:8} {state:20} last seen {seen}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("settings", help="all settings as a Markdown table")
    actions = commands.add_parser("keys", help="API keys").add_subparsers(
        dest="action", required=True
    )
    create = actions.add_parser("create", help="make a key and show it, once")
    create.add_argument("--name", required=True, help="whose it is")
    create.add_argument("--role", required=True, choices=ROLES)
    for name in vars(Quota()):
        flag = f"--{name.replace('_', '-')}"
        create.add_argument(flag, type=int, metavar="N", help="the setting's where left out")
    actions.add_parser("list", help="all keys")
    revoke = actions.add_parser("revoke", help="refuse a key from now on")
    revoke.add_argument("--name", required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
