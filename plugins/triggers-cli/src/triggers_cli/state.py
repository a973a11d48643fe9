"""What every command works on: the application, its store and where to print."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import click

from triggers_cli.errors import NothingThere, loading
from triggers_cli.output import Output
from triggers_core.exceptions import (
    InvalidInput,
    InvalidSetting,
    PluginError,
    SessionNotFound,
    UnknownKey,
)

if TYPE_CHECKING:
    from triggers_core.application import Application
    from triggers_core.registries import StorageRegistry
    from triggers_core.storages.base import Store
    from triggers_core.storages.session import SessionStorage

GIVEN_UP: Final = "What runs here is given up: when its lease runs out, a worker tries again."


def again(program: str) -> str:
    """The command line as it was typed, to be typed again; passwords in URLs are hidden.

    :param program: how it was called: ``manage.py triggers`` has its second word in `sys.argv`.
    """
    import shlex  # 1 ms: only a command that was interrupted says so

    from triggers_core.redaction import mask_url

    return mask_url(shlex.join([program.split()[0], *sys.argv[1:]]))


class State:
    """The options that every command takes, and what follows from them.

    Example::

        state = State(storage="sqlite:shop.db")
        state.session("order:42").tasks
    """

    def __init__(
        self,
        app: str | None = None,
        settings: str | None = None,
        storage: str | None = None,
        json: bool = False,
        no_color: bool = False,
    ) -> None:
        self.app_path = app
        self.settings_module = settings
        self.storage_text = storage
        self.json = json
        self.no_color = no_color
        self.program = "triggers"
        """How the command was called, for hints that are typed: ``manage.py triggers``, say."""
        self.works_here = False
        """Whether bodies may be running in this process."""
        self.gives_up = False
        """Whether bodies still run in this process that nobody waits for any longer."""

    @cached_property
    def out(self) -> Output:
        """Where to print to."""
        return Output(self.json, self.no_color)

    # -- the application --------------------------------------------------------------------------

    @cached_property
    def app(self) -> Application:
        """The application: that of ``--app``, else the default one.

        :raises click.UsageError: ``--app`` or ``--storage`` names nothing of use.
        """
        import logging  # 2 ms: `triggers --help` and `--version` do without

        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        if self.settings_module:
            os.environ["TRIGGERS_SETTINGS_MODULE"] = self.settings_module
        _let_project_be_imported()
        app = _load_application(self.app_path)
        if self.storage_text is not None:
            key, options = read_storage(self.storage_text)
            app.configure(TRIGGER_STORAGE_TYPE=key, TRIGGER_STORAGE_OPTIONS=options)
        return app

    def import_tasks(self) -> None:
        """Import the modules of `TRIGGER_IMPORTS`.

        :raises click.UsageError: one of them cannot be imported.
        """
        origin = self.app.settings.origin("TRIGGER_IMPORTS")
        with loading(f"TRIGGER_IMPORTS ({origin}): a module cannot be imported"):
            self.app.import_tasks()

    def close(self) -> None:
        """Let go of the store and the runners."""
        app = self.__dict__.get("app")
        if app is not None:
            app.close()

    # -- what is stored ---------------------------------------------------------------------------

    def store(self, create: bool = False) -> Store:
        """The store of all sessions.

        :param create: begin a new one, such as a file, when there is none.
        :raises NothingThere: there is none.
        """
        store = self.app.store
        if not create:
            self._check_there(store)
        return store

    def session(self, uid: str, create: bool = False) -> SessionStorage:
        """One session.

        :param create: it need not exist.
        :raises SessionNotFound: there is no such session.
        :raises NothingThere: there is no store.
        """
        self.store(create=True)
        storage = self.app.storage(uid)
        if not create:
            self._check_there(storage.store)
            if not storage.exists:
                raise SessionNotFound(
                    f"there is no session {uid!r} in {storage.store.place}: nothing has been"
                    f" fired into it, or it was deleted. `{self.program} sessions --all` lists"
                    " those there are"
                )
        return storage

    @property
    def origin(self) -> str:
        """Where the choice of the storage comes from, in words."""
        if self.storage_text is not None:
            return "--storage"
        return self.app.settings.origin("TRIGGER_STORAGE_OPTIONS")

    def _check_there(self, store: Store) -> None:
        if store.exists:
            return
        if store.in_this_process:
            raise NothingThere(
                f"the storage is {store.key!r} ({self.origin}): its sessions live inside the"
                " application's process and cannot be seen from here. Set TRIGGER_STORAGE_TYPE, or"
                " pass --storage sqlite:PATH"
            )
        came = f"it comes from {self.origin}"
        if self.origin == "default":
            came = "it is the default, since neither --storage nor any setting names another"
        raise NothingThere(
            f"there is no {store.place.removeprefix('the ')} ({came}). Nothing has been fired into"
            " it yet, or the sessions are elsewhere: name the application's settings with"
            " --settings MODULE (or TRIGGERS_SETTINGS_MODULE), or the place with --storage"
            f" TYPE:VALUE{self._meant()}"
        )

    def _meant(self) -> str:
        """What whoever runs a command in the wrong place means, most likely; empty, if unknown."""
        if self.program == "triggers" and os.path.exists("manage.py"):
            return ". In a Django project: python manage.py triggers …"
        settings = self.app.settings
        path, folder = settings.TRIGGER_STORAGE_OPTIONS.get("path"), settings.project
        if folder is None or str(folder) == os.getcwd():
            return ""
        if not isinstance(path, str) or os.path.isabs(path):
            return ""  # not relative to the current folder
        return f". The project's pyproject.toml is in {folder}: run it there"

    # -- asking -----------------------------------------------------------------------------------

    def confirm(self, question: str, yes: bool) -> None:
        """Ask before something that cannot be undone.

        :param yes: it has been answered already.
        :raises click.Abort: the answer is no.
        :raises click.UsageError: there is nobody to answer.
        """
        if yes:
            return
        try:
            if not click.confirm(f"{question} Continue?", err=True):
                raise NothingThere("nothing has been changed")
        except click.Abort as error:
            if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
                raise
            self.out.note("")
            raise click.UsageError(
                "this asks before it acts; without a terminal, pass --yes"
            ) from None


def _let_project_be_imported() -> None:
    """Look for modules beside the pyproject.toml with settings, too: it names them.

    Before those of the current folder, which are the last on the path: from a folder below, its
    names mean what they mean beside it.
    """
    from triggers_core.settings.sources import PyprojectSource

    try:
        folder = PyprojectSource().project()
    except InvalidSetting:
        return  # whoever reads the settings will say so
    if folder is not None and str(folder) not in sys.path:
        here = sys.path[-1:] == [os.getcwd()]
        sys.path.insert(len(sys.path) - here, str(folder))


def read_storage(text: str) -> tuple[str, dict[str, Any]]:
    """What ``--storage`` means: a key of `storage_backends`, and options.

    :raises click.UsageError: it does not begin with a key, or the storage cannot read it.

    Example::

        read_storage("sqlite:shop.db")  # ('sqlite', {'path': 'shop.db'})
        read_storage("redis://host/0")  # ('redis', {'url': 'redis://host/0'})
    """
    # 37 ms: as for the application, below.
    from triggers_core.registries import storage_backends

    key, colon, value = text.partition(":")
    if not key.strip() or (colon and not value):
        raise click.UsageError(
            f"--storage {text!r}: expected TYPE:VALUE, such as sqlite:triggers.db or"
            " redis://localhost:6379/0"
        )
    if value.startswith("//") and key not in storage_backends:
        known = sorted(storage_backends.keys())
        key = next((each for each in known if _reads(storage_backends, each, key)), key)
    try:
        return key, storage_backends.get_class(key).options_from_text(text)
    except (UnknownKey, PluginError):
        return key, {"url": text} if colon else {}  # whoever opens it will say what is wrong
    except InvalidInput as error:
        raise click.UsageError(f"--storage {text!r}: {error}") from None


def _reads(storages: StorageRegistry, key: str, scheme: str) -> bool:
    """Whether a storage can be imported, and reads URLs of a scheme."""
    try:
        return scheme in storages.get_class(key).schemes
    except PluginError:
        return False


def _load_application(path: str | None) -> Application:
    # 99 ms: `triggers --help` and `--version` do without.
    from triggers_core.application import Application, default_application
    from triggers_core.entry_points import load_path

    if not path:
        return default_application
    with loading(f"--app {path}: cannot be loaded"):
        found = load_path(path)
    if ":" not in path:
        # A module need not hold an application: it may have configured the default one.
        found = getattr(found, "app", default_application)
        return found if isinstance(found, Application) else default_application
    if not isinstance(found, Application):
        raise click.UsageError(
            f"--app {path}: expected a triggers_core.Application, it is a {type(found).__name__}"
        )
    return found
