"""Which plugins load, in which order, under which names, and what is said when one does not."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from fake_plugins import Local, called

from triggers_core.exceptions import PluginError
from triggers_core.hookspecs import hookimpl
from triggers_core.plugins.hook_calls import Plugins
from triggers_core.testing.fake_distributions import FakeDistributions, distributions

__all__ = ["distributions"]


def plugin_source(name: str) -> str:
    """A module that tells its name whenever something has fired."""
    return f"""
        from triggers_core import hookimpl

        @hookimpl
        def post_fire(scheduled):
            scheduled.append({name!r})
    """


OBJECT_SOURCE = """
    from triggers_core import hookimpl

    class Beta:
        @hookimpl
        def post_fire(self, scheduled):
            scheduled.append("beta")

    plugin = Beta()
"""


local = Local()


@pytest.fixture
def three(distributions: FakeDistributions) -> FakeDistributions:
    """Three distributions with a plugin each, and an application's module that is none."""
    distributions.add(
        "acme-gamma",
        {"gamma": "fake_gamma.plugin"},
        {"fake_gamma.plugin": plugin_source("gamma")},
        version="3.1",
    )
    distributions.add("acme-alpha", {"alpha": "fake_alpha"}, {"fake_alpha": plugin_source("alpha")})
    distributions.add(
        "acme-beta", {"beta": "fake_beta.hooks : plugin"}, {"fake_beta.hooks": OBJECT_SOURCE}
    )
    distributions.module("fake_app.hooks", plugin_source("app"))
    return distributions


LISTS: list[tuple[list[object] | None, list[str]]] = [
    (None, ["alpha", "beta", "gamma"]),
    ([], []),
    (["gamma", "alpha"], ["gamma", "alpha"]),
    (["gamma", "*"], ["gamma", "alpha", "beta"]),
    (["*", "alpha"], ["beta", "gamma", "alpha"]),
    (["gamma", "*", "alpha"], ["gamma", "beta", "alpha"]),
    (["*", "*"], ["alpha", "beta", "gamma"]),
    (["*", "no:beta"], ["alpha", "gamma"]),
    (["no:beta"], ["alpha", "gamma"]),
    (["beta", "no:beta", "alpha"], ["alpha"]),
    (["beta", "alpha", "beta"], ["beta", "alpha"]),
    # An entry point's path is another spelling of its name.
    (["fake_gamma.plugin", "alpha", "gamma"], ["gamma", "alpha"]),
    (["fake_beta.hooks:plugin", "*"], ["beta", "alpha", "gamma"]),
    (["no:gamma", "fake_gamma.plugin", "alpha"], ["alpha"]),
    (["no:fake_gamma.plugin", "gamma", "alpha"], ["alpha"]),
    (["no:fake_beta.hooks:plugin"], ["alpha", "gamma"]),
    # What no distribution names: the application's own.
    (["fake_app.hooks", "alpha"], ["app", "alpha"]),
    (["alpha", local, "beta"], ["alpha", "local", "beta"]),
    ([Local("one"), "*", Local("two")], ["one", "alpha", "beta", "gamma", "two"]),
    ([local, "alpha", local], ["local", "alpha"]),
    ([" alpha ", "no: beta"], ["alpha"]),
]


@pytest.mark.parametrize(("listed", "expected"), LISTS, ids=lambda value: repr(value)[:60])
def test_order_follows_the_list(
    three: FakeDistributions, listed: list[object] | None, expected: list[str]
) -> None:
    assert called(Plugins(listed)) == expected


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (None, []),
        (["*"], []),
        (["alpha"], ["alpha"]),
        (["gamma", "*", "alpha"], ["gamma", "alpha"]),
        (["no:beta"], []),
    ],
    ids=repr,
)
def test_switch_turns_autoloading_off(
    three: FakeDistributions, listed: list[object] | None, expected: list[str]
) -> None:
    plugins = Plugins(listed, autoload=False)
    assert called(plugins) == expected
    assert "fake_beta.hooks" not in sys.modules, "its code must not even be imported"


def test_names_are_canonical(three: FakeDistributions) -> None:
    plugins = Plugins(["fake_gamma.plugin", "fake_beta.hooks:plugin", "fake_app.hooks", local])
    names = ["gamma", "beta", "fake_app.hooks", "fake_plugins:Local"]
    assert [info.name for info in plugins.infos()][:4] == names
    assert plugins.names == set(names)


def test_objects_of_installed_plugins_have_their_names(three: FakeDistributions) -> None:
    plugins = Plugins([])
    import fake_beta.hooks  # type: ignore[import-not-found]
    import fake_gamma.plugin  # type: ignore[import-not-found]

    assert plugins.register(fake_beta.hooks.plugin) == "beta"
    assert plugins.register(fake_gamma.plugin) == "gamma"
    twice = Plugins(["gamma", fake_beta.hooks.plugin, fake_gamma.plugin, "beta"])
    assert called(twice) == ["gamma", "beta"]
    blocked = Plugins([fake_gamma.plugin, fake_beta.hooks.plugin, "no:gamma", "no:beta"])
    assert called(blocked) == []


def test_infos_tell_everything(three: FakeDistributions) -> None:
    plugins = Plugins(["gamma", local, "no:beta"])
    infos = {info.name: info for info in plugins.infos()}
    gamma = infos["gamma"]
    assert (gamma.status, gamma.order, gamma.hooks) == ("loaded", 1, ("post_fire",))
    assert (gamma.distribution, gamma.version) == ("acme-gamma", "3.1")
    assert (gamma.path, gamma.error) == ("fake_gamma.plugin", "")
    own = infos["fake_plugins:Local"]
    assert (own.status, own.order, own.distribution) == ("loaded", 2, None)
    beta = infos["beta"]
    assert (beta.status, beta.order, beta.hooks) == ("blocked", None, ())
    assert (beta.distribution, beta.error) == ("acme-beta", "blocked in the list")
    assert infos["alpha"].status == "unlisted"
    order = [info.order for info in plugins.infos()]
    assert order[:2] == [1, 2]
    assert set(order[2:]) == {None}


def test_infos_when_autoloading_is_off(three: FakeDistributions) -> None:
    statuses = {
        info.name: (info.status, info.error)
        for info in Plugins(["alpha", "*"], autoload=False).infos()
    }
    assert statuses["alpha"] == ("loaded", "")
    assert statuses["beta"] == ("blocked", "autoloading is switched off")


# -- plugins that cannot be loaded ----------------------------------------------------------------

CLASS_SOURCE = """
    from triggers_core import hookimpl

    class Thing:
        @hookimpl
        def post_fire(self, event): ...
"""

BROKEN = {
    "import error": ("import nothing_of_this_name", "fake_bad", "No module named 'nothing_of"),
    "error in it": ("1 / 0", "fake_bad", "ZeroDivisionError: division by zero"),
    "no such attribute": ("x = 1", "fake_bad:y", "AttributeError: module 'fake_bad' has no"),
    "class": (CLASS_SOURCE, "fake_bad:Thing", "is the class Thing: hooks are called on an instanc"),
    "no hook": ("x = 1", "fake_bad", "implements no hook"),
    "misspelt": (
        "from triggers_core import hookimpl\n@hookimpl\ndef post_fier(event): ...",
        "fake_bad",
        "post_fier is marked with @hookimpl, but there is no hook 'post_fier': did you mean"
        " 'post_fire'?",
    ),
    "exit": ("import sys; sys.exit('no licence')", "fake_bad", "calls sys.exit('no licence')"),
    "silent exit": ("raise SystemExit", "fake_bad", "it calls sys.exit(None) while it is imported"),
    "panic": ("class Panic(BaseException): ...\nraise Panic('p')", "fake_bad", "Panic: p"),
    "secret": ("raise OSError('redis://a:CANARY@host')", "fake_bad", "OSError: redis://a:***@host"),
    "recursion": ("def f(): f()\nf()", "fake_bad", "RecursionError"),
    "no path": ("x = 1", "not a path", "ModuleNotFoundError: No module named 'notapath'"),
}


@pytest.fixture(params=BROKEN.values(), ids=BROKEN)
def broken(request: pytest.FixtureRequest, three: FakeDistributions) -> str:
    """Install a plugin that fails to load; returns a part of the reason."""
    source, path, reason = request.param
    three.add("acme-bad", {"bad": path}, {"fake_bad": source}, version="0.9")
    return str(reason)


def test_a_listed_plugin_that_fails_is_an_error(broken: str) -> None:
    with pytest.raises(PluginError) as caught:
        Plugins(["alpha", "bad"])
    assert str(caught.value).startswith("plugin 'bad' (acme-bad 0.9)")
    assert broken in str(caught.value)


def test_an_autoloaded_plugin_that_fails_is_left_out(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = Plugins(["gamma", "*"])
    assert called(plugins) == ["gamma", "alpha", "beta"]
    [info] = [info for info in plugins.infos() if info.name == "bad"]
    assert (info.status, info.distribution, info.version) == ("failed", "acme-bad", "0.9")
    assert broken in info.error
    [record] = [record for record in caplog.records if "acme-bad" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert "'no:bad'" in record.getMessage()


def test_ctrl_c_while_a_plugin_is_imported_passes(three: FakeDistributions) -> None:
    three.add("acme-bad", {"bad": "fake_bad"}, {"fake_bad": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        Plugins()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[triggers.plugins]\nno equals sign\n"])
def test_metadata_of_others_that_cannot_be_read(
    three: FakeDistributions, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    three.add("broken-thing", {}, version="2.0")
    (three.folder / "broken_thing-2.0.dist-info" / "entry_points.txt").write_bytes(content)
    assert called(Plugins()) == ["alpha", "beta", "gamma"]
    [record] = [record for record in caplog.records if "cannot be read" in record.getMessage()]
    assert "the metadata of broken-thing cannot be read" in record.getMessage()


def test_words_that_cannot_be_modules() -> None:
    with pytest.raises(PluginError, match="no installed distribution provides it"):
        Plugins(["a\0b"])


def test_a_blocked_plugin_is_not_even_imported(three: FakeDistributions) -> None:
    three.add("acme-bad", {"bad": "fake_bad"}, {"fake_bad": "1 / 0"})
    assert called(Plugins(["*", "no:bad"])) == ["alpha", "beta", "gamma"]
    assert "fake_bad" not in sys.modules


def test_two_distributions_with_one_name(
    three: FakeDistributions, caplog: pytest.LogCaptureFixture
) -> None:
    three.add("other-beta", {"beta": "fake_other"}, {"fake_other": plugin_source("other")})
    with pytest.raises(PluginError, match=r"acme-beta 1\.0 and by other-beta 1\.0"):
        Plugins(["beta"])
    plugins = Plugins()
    assert called(plugins) == ["alpha", "gamma"]
    assert "other-beta" in caplog.text
    assert {i.name: i.status for i in plugins.infos()}["beta"] == "failed"
    # As the message says: block the name, list the path.
    assert called(Plugins(["fake_other", "no:beta", "*"])) == ["other", "alpha", "gamma"]


@pytest.mark.parametrize("metadata", [b"", b"Name: \xff\xfe"], ids=["none", "no text"])
def test_a_distribution_without_metadata_does_not_stop_the_others(
    three: FakeDistributions, metadata: bytes
) -> None:
    three.add("torso", {"torso": "fake_torso"}, {"fake_torso": "1 / 0"}, metadata=metadata)
    plugins = Plugins()
    assert called(plugins) == ["alpha", "beta", "gamma"]
    [info] = [info for info in plugins.infos() if info.name == "torso"]
    assert (info.status, info.distribution) == ("failed", "an unnamed distribution")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (["alhpa"], "plugin 'alhpa': no installed distribution provides it .* mean 'alpha'"),
        (["retry_"], "did you mean 'retry'"),
        (["fake_app.hoks"], "plugin 'fake_app.hoks': there is no module 'fake_app.hoks'"),
        (["fake_nothing.hooks"], "there is no module 'fake_nothing'"),
        (["fake_app:nothing"], "AttributeError"),
        (["json.JSONDecoder"], "write 'json:JSONDecoder'"),
        (["json"], "plugin 'json' implements no hook"),
        ([None], "None is no plugin"),
        ([Local], "is the class Local: hooks are called on an instance"),
        ([""], "'' names no plugin"),
        (["no:"], "'no:' names no plugin"),
        (["no:*"], "leave out"),
        ("alpha", r"expected a list, such as \['retry', '\*'\]"),
        ([42], "'builtins:int' implements no hook"),
    ],
    ids=repr,
)
def test_impossible_lists_are_refused(three: FakeDistributions, listed: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Plugins(listed)


def test_plugins_of_the_project_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"not_there": "triggers-not_there"}
    monkeypatch.setattr("triggers_core.plugins.loading.KNOWN_PLUGINS", known)
    with pytest.raises(PluginError, match="python -m pip install triggers-not_there"):
        Plugins(["not_there"])


def test_an_error_inside_a_listed_module_is_not_called_missing(three: FakeDistributions) -> None:
    three.module("fake_app.broken", "import nothing_of_this_name")
    with pytest.raises(PluginError, match="cannot be loaded: ModuleNotFoundError") as caught:
        Plugins(["fake_app.broken"])
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_misspelt_block_is_pointed_out(
    three: FakeDistributions, caplog: pytest.LogCaptureFixture
) -> None:
    Plugins(["*", "no:gama", "no:entirely-different"])
    assert "no:gama blocks nothing: did you mean 'gamma'?" in caplog.text
    assert "entirely-different" not in caplog.text


# -- at run time ----------------------------------------------------------------------------------


def test_register_and_unregister(three: FakeDistributions) -> None:
    plugins = Plugins(["gamma", "alpha"])
    versions = [plugins.version]
    assert plugins.register(local) == "fake_plugins:Local"
    versions.append(plugins.version)
    assert called(plugins) == ["gamma", "alpha", "local"], "as if it were listed last"
    assert plugins.unregister("gamma").__name__ == "fake_gamma.plugin"  # type: ignore[attr-defined]
    versions.append(plugins.version)
    assert plugins.unregister(local) is local
    assert called(plugins) == ["alpha"]
    assert plugins.names == {"alpha"}
    assert versions == sorted(set(versions)), "whoever caches has to notice"
    with pytest.raises(PluginError, match="'alhpa' is not registered: did you mean 'alpha'"):
        plugins.unregister("alhpa")
    with pytest.raises(PluginError, match=":Local' is not registered"):
        plugins.unregister(local)


def test_register_under_a_name() -> None:
    plugins = Plugins([])
    assert plugins.register(Local("x"), name="acme") == "acme"
    with pytest.raises(PluginError, match="'acme': another plugin is registered under this name"):
        plugins.register(Local("y"), name="acme")
    assert called(plugins) == ["x"]


def test_none_is_not_registered() -> None:
    with pytest.raises(PluginError, match="is None: list a module or an object"):
        Plugins([]).register(None)


def test_the_same_object_twice_is_refused() -> None:
    plugins = Plugins([local])
    with pytest.raises(PluginError, match=r"'again' is registered already, as '.*:Local'"):
        plugins.register(local, name="again")
    assert called(plugins) == ["local"]


def test_registering_a_blocked_plugin_is_visible(
    three: FakeDistributions, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = Plugins(["alpha", "no:gamma", "no:acme"])
    import fake_gamma.plugin

    assert plugins.register(fake_gamma.plugin) is None
    assert plugins.register(local, name="acme") is None
    assert called(plugins) == ["alpha"]
    assert "plugin 'gamma' is left out: blocked in the list" in caplog.text
    assert {i.name: i.status for i in plugins.infos()}["acme"] == "blocked"


def test_a_failed_registration_changes_nothing() -> None:
    class Half:
        @hookimpl
        def post_fire(self, scheduled: list[str]) -> None:
            scheduled.append("half")

        @hookimpl
        def pre_fire(self, manager: object, evnt: object) -> None: ...

    plugins = Plugins([local])
    before = plugins.infos(), plugins.version
    with pytest.raises(PluginError, match="takes the parameter 'evnt'"):
        plugins.register(Half())
    assert (plugins.infos(), plugins.version) == before
    assert called(plugins) == ["local"]


def test_two_applications_share_nothing() -> None:
    one, two = Plugins([local]), Plugins([])
    assert called(one) == ["local"]
    assert called(two) == []
    two.register(local)
    one.unregister(local)
    assert (called(one), called(two)) == ([], ["local"])
