"""A project: its folder, its policy, its code, and where its state is."""

import os
from functools import cached_property
from pathlib import Path

from tidemill.core.feature import FeatureSet
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.errors import InputError, NotFound
from tidemill.project.code import Code
from tidemill.project.configuration import FILE, digest, find_project, read_policy


class Project:
    """The project in `folder`; its code is loaded only when it is asked for."""

    def __init__(self, folder: Path, policy: Policy | None = None) -> None:
        self.folder = folder
        self.policy = policy or read_policy(folder / FILE)

    @classmethod
    def here(cls) -> "Project":
        """The project at or above the present folder (`TIDEMILL_PROJECT` names another)."""
        return cls(find_project(Path(os.environ.get("TIDEMILL_PROJECT", "."))))

    @property
    def name(self) -> str:
        return self.policy.name

    @property
    def state_folder(self) -> Path:
        """Where its workspace is: `TIDEMILL_WORKSPACE`, or `.tidemill` in the project."""
        return Path(os.environ.get("TIDEMILL_WORKSPACE") or self.folder / ".tidemill")

    @cached_property
    def code(self) -> Code:
        return Code(self.folder)

    @cached_property
    def policy_digest(self) -> str:
        return digest(self.policy)

    def model(self, name: str = "") -> ModelPolicy:
        """The policy of a model; of the only one where no name is given."""
        models = self.policy.models
        if name in models:
            return models[name]
        known = ", ".join(models) or "none"
        if name:
            raise NotFound(f"tidemill.toml defines no model {name!r}", f"it defines: {known}")
        if len(models) != 1:
            raise InputError(f"the project has {len(models)} models", f"name one of: {known} (--param model=NAME)")
        return next(iter(models.values()))

    def features(self, model: ModelPolicy) -> FeatureSet:
        """What a model uses, as `features.py` defines it now."""
        return FeatureSet(
            request=model.inputs.request, views=tuple(self.code.view(name) for name in model.inputs.views)
        )
