"""Guards of events and of time, of operators, and of who may change a session."""

from __future__ import annotations

from mutations.guard import Edit, Guard
from mutations.guard_of import ENGINE, engine

_ONCE_MORE = "if self.once and self.trigger in draft.header.latest:  # what was due has fired it"

EVENTS: tuple[Guard, ...] = (
    # -- events -----------------------------------------------------------------------------------
    engine(
        "event_id",
        "the same event twice is recorded once",
        "commands",
        "        if known is not None:\n            check_same_event(",
        "        if known is not None and not self.given_id:\n            check_same_event(",
        "the_same_id_again_is_a_duplicate",
        "a_duplicate_is_a_duplicate_before_anything_else",
    ),
    engine(
        "event_id names one event",
        "an id that comes with another payload is told, and not dropped",
        "commands",
        "    if not same:\n        raise EventIdConflict(",
        "    if known.trigger != trigger:\n        raise EventIdConflict(",
        "an_id_names_one_event",
    ),
    engine(
        "event_id of a body's fire",
        "what a body fires with an id that is known is no second event",
        "attempts",
        "if fire.event_id in known:",
        "if fire.event_id in ():",
        "ids_of_a_bodys_fires_are_ids",
    ),
    engine(
        "ids that Triggers generates",
        "nobody makes up the id of an event that is still to come",
        "commands",
        "if self.given_id and number_in_id(self.event_id) is not None:",
        "if self.given_id and not self.event_id:",
        "a_generated_id_is_an_id",
        "a_generated_id_is_of_one_session",
    ),
    engine(
        "once",
        "a trigger that has fired is not fired again",
        "commands",
        "        if self.once and self.trigger in draft.header.latest:\n"
        "            number = draft.header.latest[self.trigger]\n            return self._nothing(",
        "        if self.once and self.trigger in ():\n"
        "            number = draft.header.latest[self.trigger]\n            return self._nothing(",
        "once_is_a_no_op_when_the_trigger_has_fired",
        also=(
            Edit(
                f"{ENGINE}/commands.py",
                _ONCE_MORE,
                "if self.once and self.trigger in ():",
            ),
        ),
    ),
    engine(
        "once, inside the commit",
        "of two who fire at the same time, one does",
        "commands",
        "        if self.once and self.trigger in draft.header.latest:\n"
        "            number = draft.header.latest[self.trigger]\n            return self._nothing(",
        "        global _seen\n"
        "        _seen = dict(_seen) if self.once else {**_seen, uid: set(draft.header.latest)}\n"
        "        if self.once and self.trigger in _seen.get(uid, ()):\n"
        "            number = draft.header.latest[self.trigger]\n            return self._nothing(",
        "once_is_decided_inside_the_commit",
        also=(
            Edit(
                f"{ENGINE}/commands.py",
                _ONCE_MORE,
                "if self.once and self.trigger in ():",
            ),
            Edit(
                f"{ENGINE}/commands.py",
                'AS_GIVEN: Final = "given"',
                '_seen: dict[str, set[str]] = {}\nAS_GIVEN: Final = "given"',
            ),
        ),
    ),
    engine(
        "once, after what was due",
        "an otherwise-trigger that fell due first counts as fired",
        "commands",
        _ONCE_MORE,
        "if self.once and self.trigger in ():",
        "tests/test_moments.py::test_once_after_a_trigger_that_was_due",
    ),
    engine(
        "once in a body",
        "a body's fire with `once` is no second one",
        "attempts",
        "if fire.once and fire.trigger in draft.header.latest:",
        "if fire.once and fire.trigger in ():",
        "once_in_a_body",
    ),
    engine(
        "names of tasks",
        "nobody starts downstream work that never had its input",
        "commands",
        "if self.trigger in draft.configuration.tasks and not self.force:",
        "if self.trigger in () and not self.force:",
        "a_tasks_name_is_not_fired_by_hand",
    ),
    engine(
        "names of tasks, in a body",
        "nor does a body",
        "attempts",
        "if fire.trigger in draft.configuration.tasks and not fire.force:",
        "if fire.trigger in () and not fire.force:",
        "a_tasks_name_is_not_fired_by_a_body",
    ),
    engine(
        "closed sessions",
        "a closed session accepts no event",
        "commands",
        "if draft.header.state is SessionState.CLOSED:\n            raise SessionClosed(",
        "if draft.header.state is None:\n            raise SessionClosed(",
        "a_closed_session_refuses_events",
    ),
    engine(
        "length of cascades",
        "a circle of cascades comes to an end",
        "fire_rule",
        "if event.chain > limits.cascade_depth:",
        "if event.chain > limits.cascade_depth * 100:",
        "a_cascade_that_never_ends_is_cut",
    ),
    # -- operators --------------------------------------------------------------------------------
    engine(
        "only failed instances are replayed or skipped",
        "nobody runs a second time what is under way, or done",
        "commands",
        "    if instance.status is not Status.FAILED:\n        raise WrongState(",
        "    if instance.status is Status.UNSTARTED:\n        raise WrongState(",
        "only_failed_instances_are_replayed_or_skipped",
        "one_replay_wins",
    ),
    engine(
        "a replay that is asked for again",
        "a request whose answer was lost makes no second replay",
        "commands",
        "if instance.status is Status.REPLAYED and instance.request == self.request:",
        "if instance.status is Status.REPLAYED and instance.request is self:",
        "the_same_request_again_is_the_same_replay",
    ),
    engine(
        "token after a failure by hand",
        "the attempt of an instance that was failed by hand ends nothing",
        "commands",
        "        draft.set_status(instance, Status.FAILED)\n"
        '        instance.token, instance.acted_by = "", self.by\n'
        '        add_metadata(draft, instance, {"error": {"type": "FailedByHand"',
        "        draft.touch(instance)\n"
        '        add_metadata(draft, instance, {"error": {"type": "FailedByHand"',
        "a_stuck_instance_is_failed_by_hand",
    ),
    engine(
        "idempotency key of a replay",
        "a body that runs again has the same key",
        "replaying",
        "clone.key = failed.key",
        "pass",
        "a_replay_runs_a_clone",
        "a_retry_without_cooldown_is_scheduled_at_once",
    ),
    # -- who may change a session -----------------------------------------------------------------
    engine(
        "plugin skew",
        "a process without a plugin that a session requires changes nothing in it",
        "machine",
        "missing = sorted(x for x in requires if x not in present and not is_understood(x))",
        "missing = sorted(unknown_features(requires))",
        "a_process_without_a_required_plugin_changes_nothing",
        "nothing_is_stored_that_requires_a_missing_plugin",
    ),
    engine(
        "feature skew",
        "a process that does not know a word of a session's configuration changes nothing in it",
        "machine",
        "missing = sorted(x for x in requires if x not in present and not is_understood(x))",
        "missing = sorted(x for x in requires if x not in present and not x.startswith(FEATURE))",
        "tests/test_newer_versions.py::test_a_process_that_knows_fewer_features",
    ),
    engine(
        "features are recorded",
        "a session says which words its configuration uses",
        "commands",
        "requires = tuple(sorted({*kept, *self.requires, *merged.requires}))",
        "requires = tuple(sorted({*kept, *self.requires}))",
        "tests/test_newer_versions.py::test_a_process_that_knows_fewer_features",
        also=(
            Edit(
                f"{ENGINE}/reconfiguring.py",
                "header.requires = tuple(sorted({*requires, *configuration.requires}))",
                "header.requires = tuple(sorted(requires))",
            ),
        ),
    ),
    engine(
        "requirements add up",
        "a later configuration lets no process in that the first one kept out",
        "commands",
        "requires = tuple(sorted({*kept, *self.requires, *merged.requires}))",
        "requires = tuple(sorted({*self.requires, *merged.requires}))",
        "requirements_add_up",
    ),
    # -- time -------------------------------------------------------------------------------------
    engine(
        "deadline by stored time",
        "a fire decides the same whether a sweep has run or not",
        "machine",
        "self.due: bool = moment is not None and moment <= self.at",
        "self.due: bool = False",
        "tests/test_moments.py::test_a_fire_after_a_deadline_comes_too_late",
    ),
    engine(
        "deadline by stored time, at an end",
        "what has fallen due while a body ran is so before its outcome",
        "attempts",
        "if draft.due and (first := (yield from due_first(draft, uid))) is not None:\n"
        "            return first\n        if command.carrier",
        "if command.carrier",
        "tests/test_moments.py::test_a_cascade_after_a_deadline_comes_too_late",
    ),
    engine(
        "an event at the very moment is too late",
        "what is due at a moment is decided before an event of that moment",
        "machine",
        "self.due: bool = moment is not None and moment <= self.at",
        "self.due: bool = moment is not None and moment < self.at",
        "tests/test_moments.py::test_what_calls_off_comes_too_late_at_the_very_end_of_a_hold",
    ),
    engine(
        "stored times never go back",
        "a clock that is set back does not take a deadline back",
        "machine",
        "self.at: float = at if at > floor else floor",
        "self.at: float = at",
        "tests/test_moments.py::test_a_clock_that_is_set_back",
    ),
    engine(
        "what is due has its own moment",
        "a deadline that passed is recorded with its moment, whenever somebody looks",
        "moments",
        "draft.at = max(when, draft.floor)",
        "draft.at = max(now, draft.floor)",
        "tests/test_moments.py::test_what_fell_due_has_its_own_moment",
    ),
    engine(
        "once-only otherwise",
        "an instance and its replays tell of their end once",
        "leaving",
        "if trigger is None or instance.told:",
        "if trigger is None:",
        "tests/test_moments.py::test_an_otherwise_trigger_fires_once",
    ),
    engine(
        "once-only otherwise, over replays",
        "a replay knows that its parent has told",
        "replaying",
        "clone.until, clone.told = failed.until, failed.told",
        "clone.until = failed.until",
        "tests/test_moments.py::test_an_otherwise_trigger_fires_once",
    ),
    engine(
        "otherwise in the commit of the end",
        "an end that is to be told of is told of in its own commit",
        "moments",
        "        draft.absorb((yield Query(triggers=(event.trigger,))))\n"
        "        if event.trigger in draft.configuration.with_facts:\n"
        "            yield from load_facts(draft, event)\n"
        "        fire(draft, event)\n\n\ndef _why_not",
        "        draft.absorb((yield Query(triggers=(event.trigger,))))\n\n\ndef _why_not",
        "tests/test_moments.py::test_an_otherwise_trigger_fires_once",
    ),
    # -- the fire rule ----------------------------------------------------------------------------
    engine(
        "the first event is kept",
        "an instance that has an event keeps it",
        "fire_rule",
        "if instance.parent or trigger in instance.taken:",
        "if instance.parent:",
        "past_events_are_applied_in_their_order",
        "a_late_first_configuration_leads_to_the_same_as_an_early_one",
    ),
    engine(
        "past events",
        "events may overtake the configuration",
        "commands",
        "        elif header is not None:\n            snapshot = yield Query(all_events=True)",
        "        elif header is not None:\n            snapshot = yield Query()",
        "events_may_come_before_the_configuration",
    ),
)
