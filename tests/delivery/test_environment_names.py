"""Names of packages: a lock, pip and the metadata of a package write the same name in different ways."""

import pytest

from tidemill.delivery.environment import BuildEnvironment
from tidemill.host.python import normalize_name


@pytest.mark.parametrize("name", ["backports.zstd", "backports-zstd", "Backports_Zstd", "backports._-zstd"])
def test_equal_names_are_equal(name: str) -> None:
    assert normalize_name(name) == "backports-zstd"


@pytest.mark.parametrize("pin", ["backports.zstd==1.8.0", "backports-zstd==1.8.0", "backports_zstd==1.8.0"])
def test_a_package_of_the_lock_is_deployed_however_its_name_is_written(pin: str) -> None:
    environment = BuildEnvironment(
        packages={"backports-zstd": "1.8.0", "pytest": "9.0", "tidemill": "0.1.0"}, runtime=(pin,)
    )
    assert environment.deployed == {"backports-zstd": "1.8.0", "tidemill": "0.1.0"}
