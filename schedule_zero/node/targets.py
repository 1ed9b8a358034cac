"""Finding handlers: ``module:Class``, a Python file, or a folder of them, as an operator names them.

This imports code by name, so it takes its input from the operator only, never from a message or the store.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from schedule_zero.errors import InvalidHandler
from schedule_zero.node.handler import BaseHandler

_FORMS = "expected module:Class, a Python file, or a folder of Python files"


def load_targets(targets: Iterable[str]) -> list[BaseHandler]:
    """One instance of each handler class that ``targets`` name; raises InvalidHandler.

    In a folder, files whose name begins with ``_`` are skipped; in a file, base classes (without a ``handler_id``,
    but with subclasses), abstract classes, classes imported from elsewhere and those whose name begins with ``_`` are.
    """
    classes: dict[type[BaseHandler], None] = {}
    for target in targets:
        classes.update(dict.fromkeys(_classes(target)))
    handlers = [_instance(cls) for cls in classes]
    if not handlers:
        raise InvalidHandler(f"no target was given; {_FORMS}")
    owners: dict[str, type[BaseHandler]] = {}
    for handler in handlers:
        other = owners.setdefault(handler.handler_id, type(handler))
        if other is not type(handler):
            raise InvalidHandler(
                f"the handler_id {handler.handler_id!r} is used twice: by {_name(other)} and {_name(type(handler))}"
            )
    return handlers


def _classes(target: str) -> list[type[BaseHandler]]:
    path = Path(target)
    if path.is_dir():
        files = sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))
        if not files:
            raise InvalidHandler(f"the folder {target} holds no Python files (those beginning with _ don't count)")
        modules = [_import_file(file) for file in files]
        found = [cls for module in modules for cls in _classes_of(module)]
        if not found:
            raise InvalidHandler(f"no file in the folder {target} defines a handler: {_expected_class()}")
        return found
    if path.is_file() or path.suffix == ".py":
        if not path.is_file():
            raise InvalidHandler(f"there is no file {target}; {_FORMS}")
        if path.suffix != ".py":
            raise InvalidHandler(f"{target} is not a Python file; {_FORMS}")
        found = _classes_of(_import_file(path))
        if not found:
            raise InvalidHandler(f"{target} defines no handler: {_expected_class()}")
        return found
    module, colon, attribute = target.partition(":")
    if not colon or not module or not attribute:
        raise InvalidHandler(f"{target!r} is neither a file nor a folder that exists, nor module:Class; {_FORMS}")
    return [_class_of_module(module, attribute, target)]


def _class_of_module(module_name: str, attribute: str, target: str) -> type[BaseHandler]:
    # As for ``python -m``: modules in the current folder are found, also from an installed script.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InvalidHandler(f"{target}: there is no module {error.name!r} here") from None
        raise InvalidHandler(f"{target}: importing {module_name} failed: {error}") from error
    except Exception as error:  # whatever the user's module does when it is imported
        raise InvalidHandler(f"{target}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    cls = getattr(module, attribute, None)
    if cls is None:
        known = ", ".join(other.__name__ for other in _classes_of(module)) or "none"
        raise InvalidHandler(f"{target}: {module_name} has no {attribute!r}; handlers in it: {known}")
    if not (inspect.isclass(cls) and issubclass(cls, BaseHandler)):
        raise InvalidHandler(f"{target} is not a handler: {_expected_class()}; it is {cls!r}")
    return cls


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name of its own; its folder is importable, so that it can import its neighbours."""
    resolved = path.resolve()
    name = f"schedule_zero_target_{resolved.parent.name}_{resolved.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(resolved):
        return loaded
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise InvalidHandler(f"{path} can't be imported as Python; {_FORMS}")
    if str(resolved.parent) not in sys.path:
        sys.path.append(str(resolved.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file does when it is imported
        del sys.modules[name]
        raise InvalidHandler(f"importing {path} failed: {type(error).__name__}: {error}") from error
    return module


def _classes_of(module: ModuleType) -> list[type[BaseHandler]]:
    own = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, BaseHandler)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and not inspect.isabstract(value)
    ]
    # One without handler_id that nobody derives from was meant to be a handler: ``describe`` will say what it lacks.
    return [cls for cls in own if cls.handler_id or not cls.__subclasses__()]


def _instance(cls: type[BaseHandler]) -> BaseHandler:
    try:
        return cls()
    except Exception as error:  # whatever the user's __init__ does
        raise InvalidHandler(
            f"{_name(cls)} can't be made without arguments: {type(error).__name__}: {error}; "
            "read its settings in __init__ or setup()"
        ) from error


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _expected_class() -> str:
    return "expected a subclass of schedule_zero.BaseHandler with a handler_id"
