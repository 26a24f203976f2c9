"""A package is loaded once for all steps that only ask it, and again where anything differs that it depends on."""

from msgspec.structs import replace

from tests.serving.kit import package
from tidemill.models.load import load, load_cached


def test_equal_packages_share_one_predictor() -> None:
    model = package(1)
    measured = replace(model, manifest=replace(model.manifest, metrics={"test_log_loss": 0.5}))
    assert load_cached(measured) is load_cached(model)
    assert load(model) is not load_cached(model)


def test_another_signature_trust_or_file_is_another_predictor() -> None:
    model = package(1)
    first = load_cached(model)
    for other in (
        replace(model, manifest=replace(model.manifest, trusted=not model.manifest.trusted)),
        replace(model, manifest=replace(model.manifest, name="another")),
        replace(model, files=model.files | {"note.txt": b"other"}),
    ):
        assert load_cached(other) is not first


def test_only_the_last_packages_stay_loaded() -> None:
    models = [replace(package(1), files=package(1).files | {"note.txt": str(n).encode()}) for n in range(6)]
    loaded = [load_cached(model) for model in models]
    assert load_cached(models[-1]) is loaded[-1]
    assert load_cached(models[0]) is not loaded[0]
