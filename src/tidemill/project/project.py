"""A project: its folder, its policy, its code and the folder of its workspace."""

import os
from functools import cached_property
from pathlib import Path

from tidemill.core.feature import FeatureSet
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.errors import InputError, NotFound
from tidemill.project.code import Code
from tidemill.project.configuration import FILE, digest_policy, find_project, read_policy
from tidemill.project.feature_names import require_distinct_names
from tidemill.project.packaging import extract_code


class Project:
    """The project in `folder`; its code is loaded at the first use."""

    def __init__(self, folder: Path, policy: Policy | None = None) -> None:
        self.folder = folder
        self.policy = policy or read_policy(folder / FILE)

    @classmethod
    def find(cls) -> "Project":
        """Return the project in the current folder or above it, or in the folder in `TIDEMILL_PROJECT`."""
        return cls(find_project(Path(os.environ.get("TIDEMILL_PROJECT", "."))))

    @property
    def name(self) -> str:
        return self.policy.name

    @property
    def state_folder(self) -> Path:
        """The folder of the workspace: `TIDEMILL_WORKSPACE`, or `.tidemill` in the project."""
        return Path(os.environ.get("TIDEMILL_WORKSPACE") or self.folder / ".tidemill")

    @property
    def data_folder(self) -> Path:
        """The folder in which relative paths of sources start: `TIDEMILL_DATA`, or the folder of the project."""
        return Path(os.environ.get("TIDEMILL_DATA") or self.folder)

    @cached_property
    def code(self) -> Code:
        return Code(self.folder)

    @cached_property
    def policy_digest(self) -> str:
        return digest_policy(self.policy)

    def model(self, name: str = "") -> ModelPolicy:
        """Return the policy of a model; without a name, of the only model."""
        models = self.policy.models
        if name in models:
            return models[name]
        known = ", ".join(models) or "none"
        if name:
            raise NotFound(f"tidemill.toml defines no model {name!r}", f"it defines: {known}")
        if len(models) != 1:
            raise InputError(f"the project has {len(models)} models", f"choose one: {known} (--param model=NAME)")
        return next(iter(models.values()))

    def features(self, model: ModelPolicy) -> FeatureSet:
        """Return the features of a model, as `features.py` defines them now.

        Raises
        ------
        NotFound
            if `features.py` does not define a view or a transformation of the policy.
        ConfigurationError
            if the code of a transformation cannot be part of a model package.
        """
        inputs = model.inputs
        views = tuple(self.code.view(name) for name in inputs.views)
        require_distinct_names(model, views, self.policy.sources.get(model.problem.source))
        chosen = inputs.transformations
        names = tuple(self.code.transformations) if chosen is None else chosen
        transformations = tuple(self.code.transformation(name) for name in names)
        computed = {name for transformation in transformations for name in transformation.definition.outputs}
        return FeatureSet(
            request=inputs.request,
            views=views,
            transformations=tuple(transformation.definition for transformation in transformations),
            exclude=tuple(name for name in inputs.exclude if name in computed),
            code=extract_code(self.folder / "features.py", transformations),
        )
