"""Takes an app to another process: by its import string, or pickled when a cell has made it."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

import cloudpickle
from uvicorn.importer import import_from_string

from ..observer.asgi import App
from ..observer.handing import count_as_readers


class AppPickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """Pickles an app written in a cell; Starlette's `State` recurses when it is unpickled."""

    def reducer_override(self, obj: Any) -> Any:
        if (type(obj).__module__, type(obj).__name__) == ("starlette.datastructures", "State"):
            return type(obj), (dict(obj._state),)
        return super().reducer_override(obj)


def pack(app: App | str) -> dict[str, Any]:
    """What a child needs to have the same app: its import string, or the app itself, pickled.

    Raises TypeError when it holds something that cannot travel.
    """
    if isinstance(app, str):
        return {"import": app}
    buffer = io.BytesIO()
    home = import_string(app)
    try:
        # An importable app keeps its place, so that its module's functions see the same one.
        AppPickler(buffer).dump(getattr(app, "state", None) if home else app)
    except Exception as error:
        raise TypeError(
            f"this app cannot travel to another process ({error}): write it to a file with "
            "%%writefile name.py and serve it by name, serve('name:app', on='process')"
        ) from error
    return {"import": home, "state" if home else "app": buffer.getvalue()}


def import_string(app: App) -> str | None:
    """Where an app can be imported from; None for one written in a notebook."""
    for name, module in list(sys.modules.items()):
        if name not in {"__main__", "__mp_main__"}:
            for attribute, value in list(vars(module).items()):
                if value is app:
                    return f"{name}:{attribute}"
    return None


def imported(name: str) -> App:
    """The app of an import string; its package is the reader's, even where it is installed."""
    count_as_readers(name.partition(":")[0])
    app: App = import_from_string(name)
    return app


def unpack(order: dict[str, Any]) -> App:
    if order["import"] is None:
        app: App = pickle.loads(order["app"])
        return app
    app = imported(order["import"])
    if state := pickle.loads(order.get("state", pickle.dumps(None))):
        app.state._state.update(state._state)  # type: ignore[attr-defined]
    return app
