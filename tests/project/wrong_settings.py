"""Settings that do not fit, each with the message and the cure that it must have."""

BASE = """\
[project]
name = "flights"

[problem]
decision = "Warn a passenger"
source = "flights"
label = "late"

[sources.flights]
path = "data/flights.parquet"
time = "departure"
"""

TRIGGER = BASE + '[[triggers]]\nname = "daily"\npipeline = "training"\n'
WATCHED = BASE + "[[watch.values]]\nlimit = 0.1\n"
WRONG = {
    "unknown key": (BASE + "[gate]\nmargn = 1\n", "line 13: .*unknown field `margn`", "spelling"),
    "unknown key that another table knows": (
        BASE + '[training]\nwindow = "7d"\n[gate]\nwindow = "7d"\n',
        "line 15: .*unknown field `window`",
        "spelling",
    ),
    "unknown key in quotes": ("'a.b' = 1\n" + BASE, "unknown field `a.b`", "spelling"),
    "unknown table": (BASE + "[trainig]\nrounds = 3\n", "line 12: .*`trainig`", "spelling"),
    "wrong type": (
        BASE + '[gate]\nmargin = "much"\n',
        "line 13: .*expected `float`, got `str`.*gate.margin",
        "a number, without quotes",
    ),
    "wrong type of a key that stands twice": (
        BASE + '[rollout]\nmargin = 0.1\n[gate]\nmargin = "much"\n',
        "line 15: ",
        "a number, without quotes",
    ),
    "wrong type in the second model": (
        BASE + '[models.a.problem]\ndecision = "d"\nsource = "flights"\nlabel = 3\n',
        "line 15: .*expected `str`",
        "in quotes",
    ),
    "wrong type in the second of an array": (
        BASE
        + '[[watch.values]]\nvalue = "drift"\nlimit = 0.3\naction = "retrain"\n'
        + '[[watch.values]]\nvalue = "drift"\nlimit = 0.3\naction = "dance"\n',
        r"line 19: .*watch.values\[1\].action",
        "one of: collect",
    ),
    "no length of time": (BASE + '[training]\ntest = "a week"\n', "line 13: ", "7d"),
    "a length of time beyond all times": (BASE + '[training]\ntest = "99999999999999d"\n', "99999999999999d", "12h"),
    "a way to split that is none": (BASE + '[training]\nsplit = "halves"\n', "line 13: .*'halves'", "one of: group"),
    "a split by group without one": (
        BASE + '[training]\nsplit = "group"\n',
        "line 13: .*needs the column of the group",
        'group = "patient"',
    ),
    "a group without a split by it": (
        BASE + '[training]\nsplit = "time"\ngroup = "tail"\n',
        "line 14: .*group = 'tail' has no effect",
        'split = "group"',
    ),
    "a group that served rows do not tell": (
        BASE + '[inputs]\nrequest = ["hour"]\n[training]\nsplit = "group"\ngroup = "tail"\nfeedback = true\n',
        "line 17: .*have no column 'tail' for their group",
        "request",
    ),
    "strata of numbers": (
        BASE.replace('label = "late"', 'label = "late"\ntask = "regression"') + '[training]\nsplit = "stratified"\n',
        "line 14: .*a regression has none",
        '"random"',
    ),
    "a split by a time that is not there": (
        BASE.replace('time = "departure"\n', "") + '[training]\nsplit = "time"\n',
        "line 12: .*'flights' has no event time",
        r"sources.flights\] time",
    ),
    "missing key": (BASE.replace('label = "late"\n', ""), "line 4: .*required field `label`", "label = …"),
    "missing problem": (
        BASE.replace("[problem]", "[models.late.problem]") + "[models.other.gate]\nmargin = 0.1\n",
        "required field `problem`",
        "problem = …",
    ),
    "models that are no table": ("models = 3\n" + BASE, "line 1: .*expected `object`", "a table"),
    "models that are an array": (BASE + '[[models]]\nname = "x"\n', "expected `object`, got `array`", "a table"),
    "sources that are no table": ("sources = 3\n" + BASE.split("[sources")[0], "line 1: ", "a table"),
    "a source like a path": (
        BASE + '[sources."a/b"]\npath = "x.csv"\n',
        "the name of a source is invalid: 'a/b'",
        "letters, digits",
    ),
    "a source above the folder": (BASE + '[sources.".."]\npath = "x.csv"\n', "source is invalid: '..'", "letters"),
    "an environment like a path": (BASE + '[environments."a/b"]\n', "environment is invalid: 'a/b'", "letters"),
    "no name": (BASE.replace('name = "flights"', ""), "the name of the project is invalid: ''", r"name = \"flights\""),
    "a name that is none": (BASE.replace('"flights"', '"../x"', 1), "invalid: '../x'", "letters"),
    "a model's name that is none": (
        BASE + '[models."a/b".problem]\ndecision = "d"\nsource = "flights"\nlabel = "late"\n',
        "invalid: 'a/b'",
        "letters",
    ),
    "no TOML": (BASE + "x = = 3\n", "line 12", "not TOML"),
    "unknown source": (
        BASE.replace('source = "flights"', 'source = "fligths"'),
        "'fligths', which does not exist",
        "fligths",
    ),
    "no source": (BASE.split("[sources")[0], "'flights', which does not exist", "sources.flights"),
    "neither on nor cron": (TRIGGER, "'daily' must have either", "set one of them"),
    "both on and cron": (TRIGGER + 'on = "data"\ncron = "0 6 * * *"\n', "'daily' must have either", "set one of them"),
    "a cron that is none": (TRIGGER + 'cron = "every day"\n', "line 15: .*'daily' is invalid: 'every day'", "0 6"),
    "a cron that never fires": (TRIGGER + 'cron = "0 0 31 2 *"\n', "line 15: .*'daily' never fires", "exists"),
    "a trigger for an unknown model": (
        TRIGGER + 'on = "data"\nmodel = "late"\n',
        "line 16: .*'late', which is not defined",
        "flights",
    ),
    "a cooldown that is none": (TRIGGER + 'on = "data"\ncooldown = "soon"\n', "line 16: ", "7d"),
    "a negative cooldown": (TRIGGER + 'on = "data"\ncooldown = "-1h"\n', "line 16: this is not a duration", "negative"),
    "an unknown key that is nearly one": (TRIGGER + 'on = "data"\ncoldown = "1h"\n', "line 16: ", "`cooldown`"),
    "a budget of nothing": (TRIGGER + 'on = "data"\nbudget = 0\n', "line 16: ", "in this range"),
    "two triggers of one name": (
        TRIGGER + 'on = "data"\n' + TRIGGER.removeprefix(BASE) + 'cron = "0 6 * * *"\n',
        "line 17: two triggers have the name 'daily'",
        "rename one",
    ),
    "a trigger without a pipeline": (
        BASE + '[[triggers]]\nname = "daily"\non = "data"\n',
        "line 12: .*required field `pipeline`",
        "pipeline = …",
    ),
    "a cron in a zone that is none": (
        TRIGGER + 'cron = "0 6 * * *"\nzone = "Europe/Zuerich"\n',
        "line 16: .*no time zone 'Europe/Zuerich'",
        "Europe/Zurich",
    ),
    "a cron that was": (TRIGGER + 'cron = "0 0 1 1 * 0 2020"\n', "line 15: .*never fires", "in the future"),
    "an event that nothing tells": (TRIGGER + 'on = "verdct"\n', "line 15: .*'verdct'", "did you mean 'verdict'"),
    "data of a source that is none": (
        TRIGGER + 'on = "data"\nwhere = { subject = "fligths" }\n',
        "line 16: .*'fligths', which is not a source",
        "did you mean 'flights'",
    ),
    "rows of no table": (TRIGGER + 'on = "rows"\n', "line 15: .*has no table", "subject"),
    "a metric of the other task": (
        BASE.replace('label = "late"\n', 'label = "late"\nmetric = "rmse"\n'),
        "line 8: 'rmse' is not a metric of a classification",
        "log_loss",
    ),
    "a metric that is nearly one": (
        BASE.replace('label = "late"\n', 'label = "late"\nmetric = "logloss"\n'),
        "line 8: 'logloss' is not a metric",
        "did you mean 'log_loss'?",
    ),
    "a threshold that is a number": (
        BASE + "[gate]\nthresholds = { roc_auc = 0.7 }\n",
        r"line 13: expected `str`, got `float` \(gate.thresholds\)",
        '">= 0.7"',
    ),
    "a threshold without a sign": (BASE + '[gate]\nthresholds = { roc_auc = "0.7" }\n', "line 13: ", '">= 0.7"'),
    "a threshold of a metric that is nearly one": (
        BASE + '[gate]\nthresholds = { roc_acu = ">= 0.7" }\n',
        "line 13: 'roc_acu' is not a metric",
        "did you mean 'roc_auc'?",
    ),
    "a margin that is no number": (BASE + "[gate]\nmargin = nan\n", "line 13: nan cannot be compared", "finite"),
    "a share of more than all": (BASE + "[rollout]\nshare = 2.0\n", "line 13: .*< 1.0", "in this range"),
    "a canary of no time": (
        BASE + '[rollout]\nmaximum = "0d"\n',
        "line 13: a canary cannot have a duration of zero",
        "14d",
    ),
    "a key that is the label": (
        BASE + '[regimes]\nkey = "late"\n',
        "line 13: 'late', the key of the regimes, is known only after a prediction",
        "name a column that each request has",
    ),
    "a key beside the rows of a regime": (
        BASE + '[training]\nrows = "regime"\n[regimes]\nkey = "site"\n',
        "line 13: the key 'site' names the regimes",
        "remove",
    ),
    "a test of no time": (BASE + '[training]\ntest = "0d"\n', "line 13: test has a duration of zero", "14d"),
    "a window of no rows": (BASE + '[training]\nwindow = "0h"\n', "line 13: window has a duration of zero", "14d"),
    "a gate without metrics": (
        BASE + "[gate]\nmeasure = false\n",
        "line 13: measure is false, but the gate judges metrics",
        "`enabled = false`",
    ),
    "a watch without metrics": (
        BASE
        + "[gate]\nenabled = false\nmeasure = false\n"
        + WATCHED.removeprefix(BASE)
        + 'value = "log_loss"\naction = "retrain"\n',
        "line 14: measure is false, but .watch. compares 'log_loss'",
        "watch only drift, adwin, page_hinkley, learning, age, growth, silence",
    ),
    "a share of the label in per cent": (BASE + "[gate]\nleakage = 98\n", "line 13: .*<= 1", "in this range"),
    "a negative seed": (BASE + "[training]\nseed = -1\n", "line 13: .*>= 0", "in this range"),
    "a misspelt budget": (
        BASE + '[training]\nsearch = { budgett = "1m" }\n',
        "line 13: .*budgett",
        "did you mean `budget`",
    ),
    "a range from the higher to the lower": (
        BASE + "[training]\nsearch = { space = { num_leaves = [127, 7] } }\n",
        "line 13: the range of 'num_leaves' is empty",
        "7, 127",
    ),
    "a negative minimum": (BASE + "[rollout]\nminimum = -1\n", "line 13: .*>= 1", "in this range"),
    "half a label": (BASE + "[rollout]\nminimum = 0.5\n", "line 13: .*got `float`", "a whole number"),
    "a word for yes or no": (BASE + '[rollout]\ncanary = "yes"\n', "line 13: .*`bool`", "true or false"),
    "a list that is none": (BASE + '[watch]\nnotify = "log"\n', "line 13: .*`array`", "brackets"),
    "an address of nobody": (BASE + '[watch]\nnotify = ["me"]\n', "line 13: 'me' is not an address", "mailto://"),
    "an action that is nearly one": (
        WATCHED + 'value = "age"\naction = "retrian"\n',
        "line 15: .*'retrian'",
        "'retrain'?",
    ),
    "a value that nothing measures": (
        WATCHED + 'value = "profit"\naction = "retrain"\n',
        "line 14: the watch of a classification cannot measure 'profit'",
        "drift, adwin, page_hinkley, learning, age, growth, silence",
    ),
    "a share of columns that is none": (
        WATCHED.replace("0.1", "3") + 'value = "drift"\naction = "retrain"\n',
        "line 13: a limit of 3 is never exceeded",
        "three columns of ten",
    ),
    "a negative limit": (WATCHED.replace("0.1", "-0.1") + 'value = "age"\naction = "retrain"\n', "line 13", "range"),
    "a limit that is no number": (
        WATCHED.replace("0.1", "nan") + 'value = "age"\naction = "stop"\n',
        "line 13",
        "range",
    ),
    "a window of no time": (
        WATCHED + 'value = "drift"\naction = "retrain"\nwindow = "0d"\n',
        "line 16: a window with a duration of zero",
        "7d",
    ),
    "an input that is named twice": (
        BASE + '[inputs]\nrequest = ["a", "a"]\n',
        "line 13: 'a' is a duplicate",
        "write it once",
    ),
    "an input that is known later": (
        BASE + 'later = ["taxi_out"]\n[inputs]\nrequest = ["a", "taxi_out"]\n',
        "line 14: input 'taxi_out' is known only later",
        "remove it",
    ),
    "an input that is known with the label": (
        BASE.replace('label = "late"', 'label = "late"\nlabel_known_at = "done"')
        + '[inputs]\nrequest = ["a", "done"]\n',
        "line 14: input 'done' is known only with the label",
        "remove it from the inputs",
    ),
    "a label among the inputs": (
        BASE + '[inputs]\nrequest = ["a", "late"]\n',
        "line 13: the label 'late'",
        "remove it",
    ),
    "a label without a name": (BASE.replace('"late"', '""'), "line 7: the label has no name", "column"),
    "a source without a path": (
        BASE.replace("data/flights.parquet", ""),
        "line 10: source 'flights' has no path",
        "parquet",
    ),
    "a verdict that never comes": (
        TRIGGER + 'on = "verdict"\nwhere = { action = "retrian" }\n',
        "line 16: .*'retrian', which never occurs",
        "did you mean 'retrain'?",
    ),
    "a verdict that calls for nothing": (
        TRIGGER + 'on = "verdict"\nwhere = { action = "proceed" }\n',
        "line 16: .*'proceed', which never occurs",
        "retrain",
    ),
    "what an event does not tell": (
        TRIGGER + 'on = "run"\nwhere = { pipelin = "training" }\n',
        "line 16: .*kind 'run' have no 'pipelin'",
        "did you mean 'pipeline'?",
    ),
    "a trigger that starts itself": (
        TRIGGER + 'on = "run"\nwhere = { pipeline = "training" }\n',
        "line 15: trigger 'daily' starts the pipeline whose end it waits for",
        "a cooldown or a budget",
    ),
    "triggers that start each other": (
        TRIGGER.replace("daily", "first")
        + 'on = "run"\nwhere = { pipeline = "ingestion" }\n'
        + '[[triggers]]\nname = "second"\npipeline = "ingestion"\non = "run"\nwhere = { subject = "training" }\n',
        "line 15: trigger 'first' starts the pipeline whose end it waits for, through other triggers",
        "a cooldown or a budget",
    ),
    "a trigger that any run starts": (TRIGGER + 'on = "run"\n', "line 15: .*whose end it waits for", "where"),
    "a firing at no time": (
        BASE + '[[backtest.firings]]\nat = "soon"\npipeline = "training"\n',
        "line 13: 'soon' is not a date",
        "2013-03-01",
    ),
    "what is planted in no source": (
        BASE + '[[backtest.planted]]\nday = "2013-03-01"\npath = "x.csv"\nsource = "flight"\n',
        "line 15: 'flight' is not a source",
        "did you mean 'flights'?",
    ),
    "a way to catch up that is none": (
        TRIGGER + 'cron = "0 6 * * *"\ncatch_up = "some"\n',
        "line 16: ",
        "one of: all, last, none",
    ),
}
