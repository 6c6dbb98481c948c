"""Whether what a suite asks for is there: models, engines and their settings, folders. Devices are not looked at: a point on one
that this machine has not is a row that says so.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dlmodels.engines import engine_type, known_engines
from dlmodels.errors import ConversionError, SettingError
from dlmodels.settings import parse_settings
from dlmodels.zoo.catalog import CATALOG
from dlmodels.zoo.presets import PRESETS

from dlclient.bench.known import SIMULATED, Known, conversion, spelled
from dlclient.bench.matrix import axis, expand, unequal
from dlclient.bench.problems import Source, Where, nearest, unknown
from dlclient.bench.suite import INPROC, OWN, Matrix, Scalar, Suite, listed
from dlclient.bench_result import Setting

DATATYPE = "datatype"
"""What engines call the precision."""
_INPUTS = {True: ("tensor", "image"), False: ("base64", "path", "raw", "url")}
"""In process or not -> the words for `inputs`."""
_SERVER_OWN = ("threads", "affinity")


def check(suite: Suite, source: Source, known: Known) -> tuple[Setting, ...]:
    """The points of a suite in which everything was found. Raises SuiteError with all that is wrong, also what was read wrong."""
    _check_folders(suite, source)
    for number, matrix in enumerate(suite.matrix, start=1):
        where = Where(table="matrix", number=number)
        for text in unequal(matrix, suite.target):
            source.report(_at(where, "zip"), text)
        _check_words(matrix, suite.target, where, source)
        if suite.target == INPROC:
            _check_models(matrix, where, source, known)
            _check_engines(matrix, where, source, known)
        else:
            _check_server(matrix, where, source)
    source.check()
    settings = expand(suite, known)
    if not settings:
        source.report(Where("exclude", "matrix", 1), "no point is left: exclude less")
        source.check()
    return settings


def questions(suite: Suite) -> set[Scalar]:
    """All that a suite asks."""
    return {question for matrix in suite.matrix for question in axis(matrix, "questions")}


def refused(setting: Setting) -> str:
    """Why an engine does not take a point's settings, and the cure; "" if it takes them."""
    if not setting.engine:
        return ""
    kind = engine_type(setting.engine).settings_type
    parameters = dict(setting.options) | ({DATATYPE: setting.precision} if setting.precision else {})
    try:
        parse_settings(parameters, kind, setting.engine)
    except SettingError as exc:
        return str(exc)
    return ""


def _check_folders(suite: Suite, source: Source) -> None:
    for key in ("images", "dataset"):
        text = getattr(suite, key)
        folder = Path(text)
        if text and not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            source.report(Where(key), f"the folder {folder} {what}: name one with images in it, seen from {Path.cwd()}")
        elif text and not any(folder.iterdir()):
            source.report(Where(key), f"the folder {folder} is empty: put images there")
    if "accuracy" in questions(suite) and not suite.dataset:
        source.report(Where("dataset"), "the question accuracy needs labelled images: name their folder")
    if suite.target == INPROC and Path(suite.repository).exists() and not Path(suite.repository).is_dir():
        source.report(Where("repository"), f"{suite.repository} is a file: name a folder of model folders")


def _check_words(matrix: Matrix, target: str, where: Where, source: Source) -> None:
    words = _INPUTS[target == INPROC]
    for value in listed(matrix.inputs):
        if value not in words:
            side = "in process" if target == INPROC else "at a server"
            source.report(_at(where, "inputs"), f"{side} {unknown('input', str(value), words)}")
    if DATATYPE in matrix.options:
        source.report(
            _at(where, f"options.{DATATYPE}"),
            f"what is computed in has a list of its own: write precision, not {DATATYPE}",
        )
    for axes in matrix.exclude:
        for engine in listed(axes.engines):
            if spelled(str(engine)) not in known_engines():
                source.report(_at(where, "exclude"), unknown("engine", str(engine), known_engines()))


def _check_models(matrix: Matrix, where: Where, source: Source, known: Known) -> None:
    engines = [str(engine) for engine in axis(matrix, "engines")]
    for value in dict.fromkeys(map(str, axis(matrix, "models"))):
        if reason := known.broken.get(value):
            source.report(_at(where, "models"), reason)
        elif not known.there_is(value, engines):
            guess = nearest(value, (*known.repository, *CATALOG, *PRESETS))
            text = f"there is no model {value!r}, neither in the repository nor in the zoo.{guess}"
            source.report(_at(where, "models"), f"{text} `dlmodels list` shows the zoo, `--preset NAME` a preset")


def _check_engines(matrix: Matrix, where: Where, source: Source, known: Known) -> None:
    for value in listed(matrix.engines):
        if spelled(str(value)) not in (*known_engines(), OWN):
            source.report(_at(where, "engines"), unknown("engine", str(value), (OWN, *known_engines())))
    engines = _engines(matrix, known)
    for name, values in matrix.options.items():
        for engine in engines:
            for value in listed(values):
                if name != DATATYPE and (reason := _refusal(engine, name, value)):
                    alone = "" if len(engines) == 1 else "; settings of one engine are for a [[matrix]] of its own"
                    source.report(_at(where, f"options.{name}"), f"{reason}{alone}")
    for value in listed(matrix.precision):
        # one that some of the engines have not is a row that says so, as with devices
        reasons = [_refusal(engine, DATATYPE, value) for engine in engines] if value else []
        if reasons and all(reasons):
            source.report(_at(where, "precision"), reasons[0])


def _engines(matrix: Matrix, known: Known) -> Sequence[str]:
    """Those that there are, of the models for their own."""
    engines = [str(engine) for engine in axis(matrix, "engines")]
    own = [known.engine_of(str(model)) for model in axis(matrix, "models")] if OWN in engines else []
    return [one for one in dict.fromkeys((*engines, *own)) if one in known_engines()]


def _refusal(engine: str, name: str, value: Scalar) -> str:
    """What an engine has against one setting."""
    if name == DATATYPE and name not in engine_type(engine).settings_type.__struct_fields__:
        return f"{engine} cannot be told a precision: leave it out"
    return refused(Setting(model="", engine=engine, options={name: value}))


def _check_server(matrix: Matrix, where: Where, source: Source) -> None:
    for key in _SERVER_OWN:
        if any(listed(getattr(matrix, key))):
            source.report(_at(where, key), "a server has its own: leave it out, or set it where the server is started")
    if 0 in listed(matrix.in_flight):
        source.report(_at(where, "in_flight"), "how many are best for a server is not known: give a number above 0")
    for name in matrix.options if not listed(matrix.engines) else ():
        source.report(_at(where, f"options.{name}"), "it is an engine's setting: say of which in engines")


def _at(where: Where, key: str) -> Where:
    return Where(key, where.table, where.number)


def unsupported(settings: Sequence[Setting], known: Known) -> Iterator[tuple[Setting, str]]:
    """The points that cannot be measured on this machine, each with the reason and the cure."""
    for setting in settings:
        if setting.target != INPROC:
            continue
        if reason := known.unsupported(setting.engine, setting.device) or refused(setting) or _no_way(setting, known):
            yield setting, reason


def _no_way(setting: Setting, known: Known) -> str:
    """Why a model cannot be brought to an engine."""
    name, engine = setting.model, setting.engine
    model = known.model(name)
    if model is None or (name, engine) in known.folders or engine == model.engine:
        return ""
    shows = f"`dlmodels show {name}` lists the engines that it can run on"
    if name in CATALOG and engine in CATALOG[name].not_for:
        return f"{engine} cannot run {name}: {shows}"
    if engine == SIMULATED:
        return f"{name} is a real model, which the simulated engine does not run: choose another name or engine"
    try:
        conversion(model, engine)
    except ConversionError as exc:
        return f"{engine} cannot run {name}: {exc}"
    return ""
